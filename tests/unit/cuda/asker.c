// A library that uses CUDA's runtime, built as libasker.so. The rest is about dlsym.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>

uint64_t rt_alloc(size_t bytes);
int rt_free(uint64_t address);

uint64_t ask(size_t bytes) {
    volatile uint64_t address = rt_alloc(bytes);
    return address;
}
int give_back(uint64_t address) {
    volatile int status = rt_free(address);
    return status;
}

// This library's own is not the next one.
int getpid(void) { return -1; }
int next_getpid(void) { return ((int (*)(void))dlsym(RTLD_NEXT, "getpid"))(); }
int knows(const char *symbol) { return dlsym(RTLD_DEFAULT, symbol) != NULL; }
