/* Counts the calls that ask for memory or give it back, for a program that loads this before all else. */
#include <stddef.h>

long workbench_calls;

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void __libc_free(void *);

static void counted(void) { __atomic_fetch_add(&workbench_calls, 1, __ATOMIC_RELAXED); }

void *malloc(size_t size) { counted(); return __libc_malloc(size); }
void *calloc(size_t count, size_t size) { counted(); return __libc_calloc(count, size); }
void *realloc(void *block, size_t size) { counted(); return __libc_realloc(block, size); }
void free(void *block) { counted(); __libc_free(block); }
