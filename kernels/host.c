/* The host's memory: malloc and its family. Requests below the threshold cost a comparison, frees of
 * them a look at the block's size, which is also what says whether its allocation was recorded. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <string.h>

#include "recorder.h"

#define CALLER __builtin_return_address(0)

/* --- the functions whose place is taken --------------------------------------------------------------------------- */

/* Until they are found, the first calls find them; what finding asks for is served from a small arena. */
static void *first_malloc(size_t size);
static void *first_calloc(size_t count, size_t size);
static void *first_realloc(void *old, size_t size);
static void first_free(void *block);
static size_t first_usable(void *block);

struct wb_real wb_real = {.malloc = first_malloc,
                          .calloc = first_calloc,
                          .realloc = first_realloc,
                          .free = first_free,
                          .usable = first_usable};

static _Alignas(64) char arena[1 << 14];
static size_t arena_used;

static void *from_arena(size_t size) {
    size_t at = arena_used;
    size = (size + 15) & ~(size_t)15;
    if (size > sizeof arena - at) return NULL;
    arena_used = at + size;
    return arena + at;
}

static bool in_arena(const void *block) { return (uintptr_t)block - (uintptr_t)arena < sizeof arena; }

/* --- recording ---------------------------------------------------------------------------------------------------- */

bool wb_host_stacks(void) { return atomic_load_explicit(&wb_settings.stacks, memory_order_relaxed) != WB_STACKS_NONE; }

struct wb_record wb_host_event(uint8_t kind, const void *address, size_t bytes, size_t asked) {
    return (struct wb_record){.kind = kind, .layer = WB_HOST, .tier = WB_PAGEABLE, .device = -1,
                              .address = (uintptr_t)address, .bytes = bytes, .asked = asked};
}

struct wb_least wb_least = {SIZE_MAX, 0};

/* What glibc keeps just before a block: its size, with what it takes itself, and flags in the lowest three bits. Other
 * allocators are asked for the size. */
static size_t head_of(const void *block) { return ((const size_t *)block)[-1]; }
static bool has_heads;

static size_t usable(void *block) {
    enum { FLAGS = 7, MAPPED = 2 };
    if (WB_UNLIKELY(!has_heads)) return wb_real.usable(block);
    size_t head = head_of(block);
    return (head & ~(size_t)FLAGS) - (head & MAPPED ? 2 : 1) * sizeof(size_t);
}

size_t wb_host_limit(void) {
    return WB_LIKELY(atomic_load_explicit(&wb_settings.host, memory_order_relaxed)) ? wb_limit() : SIZE_MAX;
}

/* Requests of torch have a threshold of their own. */
static size_t torch_limit(void) {
    return wb_limit() != SIZE_MAX && atomic_load(&wb_settings.torch) ? wb_settings.torch_minimum : SIZE_MAX;
}

void wb_choose_least(void) {
    size_t bytes = wb_host_limit();
    if (torch_limit() < bytes) bytes = torch_limit();
    atomic_store(&wb_least.request, bytes == SIZE_MAX ? SIZE_MAX : bytes / 2); /* an allocator rounds up, at most to that */
    atomic_store(&wb_least.head, has_heads ? bytes : 0);
}

/* Whether it takes no more than a look at the block to know that its allocation was not recorded. */
static bool is_surely_small(const void *block) {
    size_t least = atomic_load_explicit(&wb_least.head, memory_order_relaxed);
    return !block || (least && head_of(block) < least);
}

static size_t limit(void) { return WB_UNLIKELY(wb_thread.torch) ? torch_limit() : wb_host_limit(); }

bool wb_keeps_stack(size_t bytes) {
    int mode = atomic_load_explicit(&wb_settings.stacks, memory_order_relaxed);
    return mode == WB_STACKS_ALL || (mode == WB_STACKS_LARGE && bytes >= wb_limit());
}

/* A block was handed out. Not inlined, so that its frame lies next to that of the hook. */
WB_HOT __attribute__((noinline)) static void took(void *block, size_t asked, const void *caller) {
    size_t bytes = block ? usable(block) : asked;
    if (bytes < limit()) return;
    struct wb_record event = wb_host_event(block ? WB_ALLOC : WB_REFUSED, block, bytes, asked);
    event.owner = wb_thread.torch ? wb_torch_name() : wb_owner(caller, __builtin_frame_address(0));
    wb_emit(&event, wb_keeps_stack(bytes));
}

/* A block is about to be given back. Recorded before it is: afterwards another thread may have it. */
WB_HOT __attribute__((noinline)) static void gives(const void *block, size_t bytes) {
    struct wb_record event = wb_host_event(WB_FREE, block, bytes, bytes);
    wb_emit(&event, false);
}

/* An allocator rounds up, never to more than twice: below half of the threshold nothing can reach it. */
static bool is_small(size_t size) { return WB_LIKELY(size < limit() / 2); }

static size_t bytes_to_record(void *block) {
    if (WB_LIKELY(is_surely_small(block))) return 0;
    size_t least = limit();
    if (least == SIZE_MAX) return 0;
    size_t bytes = usable(block);
    return WB_UNLIKELY(bytes >= least) ? bytes : 0;
}

/* --- malloc and its family ---------------------------------------------------------------------------------------- */

/* malloc and free are called a hundred thousand times a token: what is not recorded is passed on by a jump, and what
 * needs registers is elsewhere. */
static bool is_surely_small_request(size_t size) {
    return WB_LIKELY(size < atomic_load_explicit(&wb_least.request, memory_order_relaxed));
}

__attribute__((noinline)) static void *malloc_large(size_t size, const void *caller) {
    void *block = wb_real.malloc(size);
    if (!is_small(size)) took(block, size, caller);
    return block;
}

static void *wb_malloc(size_t size) {
    return is_surely_small_request(size) ? wb_real.malloc(size) : malloc_large(size, CALLER);
}

static void *wb_calloc(size_t count, size_t size) {
    size_t asked;
    if (__builtin_mul_overflow(count, size, &asked) || is_small(asked)) return wb_real.calloc(count, size);
    void *block = wb_real.calloc(count, size);
    took(block, asked, CALLER);
    return block;
}

__attribute__((noinline)) static void free_large(void *block) {
    size_t bytes = bytes_to_record(block);
    if (bytes) gives(block, bytes);
    wb_real.free(block);
}

static void wb_free(void *block) {
    if (WB_LIKELY(is_surely_small(block))) wb_real.free(block);
    else free_large(block);
}

/* A free and an allocation, also where the block stays in its place. */
static void *reallocate(void *old, size_t size, const void *caller) {
    size_t had = bytes_to_record(old);
    if (WB_LIKELY(!had) && is_small(size)) return wb_real.realloc(old, size);
    if (had) gives(old, had);
    void *block = wb_real.realloc(old, size);
    took(block, size, caller);
    if (!block && had && size) took(old, had, caller); /* it failed and left the old block as it was */
    return block;
}

static void *wb_realloc(void *old, size_t size) { return reallocate(old, size, CALLER); }

static void *wb_reallocarray(void *old, size_t count, size_t size) {
    size_t asked;
    if (!__builtin_mul_overflow(count, size, &asked)) return reallocate(old, asked, CALLER);
    errno = ENOMEM;
    return NULL;
}

__attribute__((noinline)) static int memalign_large(void **block, size_t alignment, size_t size, const void *caller) {
    int error = wb_real.posix_memalign(block, alignment, size);
    if (!is_small(size)) took(error ? NULL : *block, size, caller);
    if (error) wb_thread.torch = false; /* libc10 throws, and does not come back to wb_alloc_cpu */
    return error;
}

static int wb_posix_memalign(void **block, size_t alignment, size_t size) {
    return is_surely_small_request(size) ? wb_real.posix_memalign(block, alignment, size)
                                         : memalign_large(block, alignment, size, CALLER);
}

static void *wb_aligned_alloc(size_t alignment, size_t size) {
    void *block = wb_real.aligned_alloc(alignment, size);
    if (!is_small(size)) took(block, size, CALLER);
    return block;
}

static void *wb_memalign(size_t alignment, size_t size) {
    void *block = wb_real.memalign(alignment, size);
    if (!is_small(size)) took(block, size, CALLER);
    return block;
}

static void *wb_valloc(size_t size) {
    void *block = wb_real.valloc(size);
    if (!is_small(size)) took(block, size, CALLER);
    return block;
}

static void *wb_pvalloc(size_t size) {
    void *block = wb_real.pvalloc(size);
    if (!is_small(size)) took(block, size, CALLER);
    return block;
}

/* --- finding ------------------------------------------------------------------------------------------------------ */

const struct wb_hook wb_host_hooks[] = {
    WB_HOOK(malloc),         WB_HOOK(calloc),   WB_HOOK(realloc), WB_HOOK(reallocarray), WB_HOOK(aligned_alloc),
    WB_HOOK(posix_memalign), WB_HOOK(memalign), WB_HOOK(valloc),  WB_HOOK(pvalloc),      WB_HOOK(free),
};
const size_t wb_host_hook_count = WB_COUNT(wb_host_hooks);
WB_TAKE_PLACE_OF(malloc, wb_malloc);
WB_TAKE_PLACE_OF(calloc, wb_calloc);
WB_TAKE_PLACE_OF(realloc, wb_realloc);
WB_TAKE_PLACE_OF(reallocarray, wb_reallocarray);
WB_TAKE_PLACE_OF(aligned_alloc, wb_aligned_alloc);
WB_TAKE_PLACE_OF(posix_memalign, wb_posix_memalign);
WB_TAKE_PLACE_OF(memalign, wb_memalign);
WB_TAKE_PLACE_OF(valloc, wb_valloc);
WB_TAKE_PLACE_OF(pvalloc, wb_pvalloc);
WB_TAKE_PLACE_OF(free, wb_free);

static const struct link_map *library_of(const void *code) {
    struct dl_find_object object;
    return _dl_find_object((void *)code, &object) ? NULL : object.dlfo_link_map;
}

static const struct link_map *first_library(void) {
    const struct link_map *library = library_of((void *)wb_malloc);
    while (library->l_prev) library = library->l_prev;
    return library;
}

/* Whether `function` is code of `library`. A program's own stub, which stands for the function where the program takes
 * its address, is not: it leads to whatever the name stands for. */
static bool is_definition(const void *function, const struct link_map *library) {
    Dl_info info;
    const ElfW(Sym) *symbol = NULL;
    if (!function || library_of(function) != library) return false;
    return !dladdr1(function, &info, (void **)&symbol, RTLD_DL_SYMENT) || !symbol || symbol->st_shndx != SHN_UNDEF;
}

/* The libraries are in the order in which the loader looks a name up; the first one is the program. */
static void *after_the_program(const char *symbol) {
    const struct link_map *self = library_of((void *)wb_malloc);
    for (const struct link_map *library = first_library()->l_next; library; library = library->l_next) {
        if (library == self) return wb_dlsym_beyond(RTLD_NEXT, symbol);
        void *handle = strstr(library->l_name, "vdso") ? NULL : dlopen(library->l_name, RTLD_LAZY | RTLD_NOLOAD);
        void *function = handle ? wb_dlsym_beyond(handle, symbol) : NULL;
        if (handle) dlclose(handle);
        if (is_definition(function, library)) return function;
    }
    return NULL;
}

void *wb_beyond(const char *symbol) {
    void *function = wb_dlsym_beyond(RTLD_DEFAULT, symbol);
    const struct link_map *library = library_of(function);
    if (library == library_of((void *)wb_malloc)) return wb_dlsym_beyond(RTLD_NEXT, symbol);
    return is_definition(function, library) ? function : after_the_program(symbol);
}

static struct wb_real found; /* behind those that look out for the arena */

static void free_outside_arena(void *block) {
    if (!in_arena(block)) found.free(block);
}

static size_t usable_outside_arena(void *block) { return in_arena(block) ? 0 : found.usable(block); }

static void *realloc_outside_arena(void *old, size_t size) {
    if (!in_arena(old)) return found.realloc(old, size);
    void *block = found.malloc(size);
    size_t had = (size_t)(arena + sizeof arena - (char *)old);
    return block ? memcpy(block, old, size < had ? size : had) : NULL;
}

static void find(const struct wb_hook *hooks, size_t count) {
    for (size_t i = 0; i < count; i++) {
        void *function = wb_beyond(hooks[i].symbol);
        memcpy((char *)&found + ((char *)hooks[i].real - (char *)&wb_real), &function, sizeof function);
    }
}

/* glibc, as far as can be seen: its blocks tell their sizes as it is said above. */
static bool check_heads(void) {
    static const size_t sizes[] = {1, 24, 25, 1000, 70000, (size_t)1 << 20, (size_t)40 << 20};
    const struct link_map *library = library_of((void *)found.malloc);
    bool fits = library && strstr(library->l_name, "/libc.so.") && !arena_used;
    has_heads = fits;
    for (size_t i = 0; i < WB_COUNT(sizes) && fits; i++) {
        void *block = found.malloc(sizes[i]);
        fits = block && usable(block) == found.usable(block);
        found.free(block);
    }
    return fits;
}

void wb_find_host(void) {
    static int finding, done;
    if (finding || done) return;
    finding = 1;
    found.usable = (size_t (*)(void *))wb_beyond("malloc_usable_size");
    find(wb_host_hooks, wb_host_hook_count);
    find(wb_mapping_hooks, wb_mapping_hook_count);
    wb_real = found;
    if (arena_used) {
        wb_real.free = free_outside_arena;
        wb_real.realloc = realloc_outside_arena;
        wb_real.usable = usable_outside_arena;
    }
    has_heads = check_heads();
    wb_choose_least();
    done = 1;
    finding = 0;
}

static void *first_malloc(size_t size) {
    wb_find_host();
    return wb_real.malloc == first_malloc ? from_arena(size) : wb_real.malloc(size);
}

static void *first_calloc(size_t count, size_t size) {
    wb_find_host();
    return wb_real.calloc == first_calloc ? from_arena(count * size) : wb_real.calloc(count, size);
}

static void *first_realloc(void *old, size_t size) {
    wb_find_host();
    if (wb_real.realloc != first_realloc) return wb_real.realloc(old, size);
    void *block = from_arena(size);
    return block && old ? memmove(block, old, size) : block;
}

static void first_free(void *block) {
    wb_find_host();
    if (wb_real.free != first_free) wb_real.free(block);
}

static size_t first_usable(void *block) {
    wb_find_host();
    return wb_real.usable == first_usable ? 0 : wb_real.usable(block);
}

bool wb_in_allocator(const void *code) { return library_of(code) == library_of((void *)found.malloc); }

WB_PUBLIC const char *wb_allocator(void) {
    const struct link_map *library = library_of((void *)found.malloc);
    return library ? library->l_name : "";
}

WB_PUBLIC int wb_preloaded(void) {
    const struct link_map *self = library_of((void *)wb_malloc), *allocator = library_of((void *)found.malloc);
    const struct link_map *library = first_library();
    while (library && library != self && library != allocator) library = library->l_next;
    return library == self;
}
