/* Calls every allocating function once above the threshold and once below it, and says what must have been recorded:
 * "alloc <address> <bytes> <asked>" and "free <address> <bytes>", one a line, in their order. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

static const size_t large = 200000, small = 30000;

static void *took(void *block, size_t asked) {
    printf("alloc %zu %zu %zu\n", (uintptr_t)block, malloc_usable_size(block), asked);
    return block;
}

static void gives(void *block) {
    printf("free %zu %zu\n", (uintptr_t)block, malloc_usable_size(block));
    free(block);
}

static void range(const char *kind, void *address, size_t bytes) {
    printf(kind[0] == 'a' ? "%s %zu %zu %zu\n" : "%s %zu %zu\n", kind, (uintptr_t)address, bytes, bytes);
}

static void reallocations(void) {
    void *block = took(malloc(large), large);
    printf("free %zu %zu\n", (uintptr_t)block, malloc_usable_size(block));
    block = took(realloc(block, 3 * large), 3 * large);
    printf("free %zu %zu\n", (uintptr_t)block, malloc_usable_size(block));
    block = took(reallocarray(block, 4, large), 4 * large);
    printf("free %zu %zu\n", (uintptr_t)block, malloc_usable_size(block));
    free(realloc(block, small));
    block = malloc(small);
    block = took(realloc(block, large), large);
    gives(block);
    gives(took(realloc(NULL, large), large));
}

static void mappings(void) {
    const int access = PROT_READ | PROT_WRITE, private = MAP_PRIVATE | MAP_ANONYMOUS;
    char *memory = mmap(NULL, 1 << 20, access, private, -1, 0);
    range("alloc", memory, 1 << 20);
    range("free", memory + (1 << 18), 4096); /* a part, below the threshold */
    munmap(memory + (1 << 18), 4096);
    range("free", memory, 1 << 20);
    munmap(memory, 1 << 20);
    memory = mmap64(NULL, 1 << 20, access, private, -1, 0);
    range("alloc", memory, 1 << 20);
    range("free", memory, 1 << 20);
    memory = mremap(memory, 1 << 20, 1 << 21, MREMAP_MAYMOVE);
    range("alloc", memory, 1 << 21);
    range("free", memory + (1 << 20), 1 << 20);
    range("alloc", mmap(memory + (1 << 20), 1 << 20, access, private | MAP_FIXED, -1, 0), 1 << 20);
    range("free", memory, 1 << 21);
    munmap(memory, 1 << 21);
    mmap(NULL, 4096, access, private, -1, 0);
}

int main(void) {
    static char output[1 << 12]; /* so that printf allocates nothing */
    setvbuf(stdout, output, _IOFBF, sizeof output);
    void *block;
    gives(took(malloc(large), large));
    gives(took(calloc(1000, large / 1000), large));
    gives(took(aligned_alloc(256, large - large % 256), large - large % 256));
    posix_memalign(&block, 4096, large);
    gives(took(block, large));
    gives(took(memalign(64, large), large));
    gives(took(valloc(large), large));
    gives(took(pvalloc(large), large));
    reallocations();
    mappings();
    free(malloc(small));
    free(calloc(10, small / 10));
    free(aligned_alloc(64, 640));
    free(malloc(65536 - 64));
    gives(took(malloc(65536), 65536));
    gives(took(malloc(65535), 65535)); /* its block reaches the threshold */
    free(NULL);
    void *library = dlopen("libstdc++.so.6", RTLD_NOW);
    void *(*new)(size_t) = library ? (void *(*)(size_t))dlsym(library, "_Znwm") : malloc;
    gives(took(new(large), large)); /* operator new only passes the request on */
    return 0;
}
