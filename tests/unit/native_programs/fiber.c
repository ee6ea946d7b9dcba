/* A fiber is nothing but operator new: it asks for memory with hardly anything of its stack in use, nothing behind it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>
#include <ucontext.h>

static const size_t STACK = 64 << 10, PAGE = 64 << 10;

int main(void) {
    static ucontext_t here, there;
    void *library = dlopen("libstdc++.so.6", RTLD_NOW);
    char *stack = mmap(NULL, STACK + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!library || stack == MAP_FAILED || mprotect(stack + STACK, PAGE, PROT_NONE)) return 1;
    getcontext(&there);
    there.uc_stack.ss_sp = stack;
    there.uc_stack.ss_size = STACK;
    there.uc_link = &here;
    makecontext(&there, (void (*)(void))dlsym(library, "_Znwm"), 1, 345678);
    errno = 0;
    swapcontext(&here, &there);
    return errno;
}
