/* The host's memory that is mapped: mmap and its own. What libc and the loader map for themselves is not seen. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <unistd.h>

#include "recorder.h"

#define CALLER __builtin_return_address(0)

static size_t whole_pages(size_t length) {
    static size_t page;
    if (!page) page = (size_t)sysconf(_SC_PAGESIZE);
    return (length + page - 1) & ~(page - 1);
}

static bool records_mappings(const void *caller) { return wb_host_limit() != SIZE_MAX && !wb_in_allocator(caller); }

/* Also of ranges below the threshold: they may be parts of a mapping that was recorded. */
static void gives_range(const void *address, size_t length) {
    struct wb_record event = wb_host_event(WB_FREE, address, whole_pages(length), length);
    event.flags = WB_RANGE;
    wb_emit(&event, false);
}

static void took_range(const void *address, size_t length, uint8_t flags, const void *caller) {
    bool refused = address == MAP_FAILED;
    struct wb_record event = wb_host_event(refused ? WB_REFUSED : WB_ALLOC, address, whole_pages(length), length);
    if ((refused && errno != ENOMEM) || event.bytes < wb_limit()) return;
    event.flags = flags;
    event.owner = wb_owner(caller, NULL);
    wb_emit(&event, wb_host_stacks());
}

static uint8_t kind_of_mapping(int protection, int flags) {
    bool file = !(flags & MAP_ANONYMOUS), shared = (flags & MAP_TYPE) != MAP_PRIVATE;
    return (uint8_t)((file ? WB_FILE : 0) | (shared ? WB_SHARED : 0) | (protection == PROT_NONE ? WB_RESERVED : 0));
}

static bool replaces(int flags) { return (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) == MAP_FIXED; }

static void *map(void *address, size_t length, int protection, int flags, int file, off_t offset, const void *caller) {
    if (!records_mappings(caller)) return wb_real.mmap(address, length, protection, flags, file, offset);
    if (replaces(flags)) gives_range(address, length);
    void *memory = wb_real.mmap(address, length, protection, flags, file, offset);
    took_range(memory, length, kind_of_mapping(protection, flags), caller);
    return memory;
}

static void *wb_mmap(void *address, size_t length, int protection, int flags, int file, off_t offset) {
    return map(address, length, protection, flags, file, offset, CALLER);
}

static void *wb_mmap64(void *address, size_t length, int protection, int flags, int file, off_t offset) {
    return map(address, length, protection, flags, file, offset, CALLER);
}

static void *wb_mremap(void *old, size_t old_length, size_t length, int flags, ...) {
    void *to = NULL;
    if (flags & MREMAP_FIXED) {
        va_list rest;
        va_start(rest, flags);
        to = va_arg(rest, void *);
        va_end(rest);
    }
    if (!records_mappings(CALLER)) return wb_real.mremap(old, old_length, length, flags, to);
    if (to) gives_range(to, length);
    bool leaves = old_length && !(flags & MREMAP_DONTUNMAP);
    if (leaves) gives_range(old, old_length);
    void *memory = wb_real.mremap(old, old_length, length, flags, to);
    if (memory != MAP_FAILED) took_range(memory, length, leaves ? WB_MOVED : 0, CALLER);
    else if (leaves) took_range(old, old_length, WB_MOVED, CALLER);
    return memory;
}

static int wb_munmap(void *address, size_t length) {
    if (records_mappings(CALLER)) gives_range(address, length);
    return wb_real.munmap(address, length);
}

/* --- the hooks ---------------------------------------------------------------------------------------------------- */

const struct wb_hook wb_mapping_hooks[] = {WB_HOOK(mmap), WB_HOOK(mmap64), WB_HOOK(mremap), WB_HOOK(munmap)};
const size_t wb_mapping_hook_count = WB_COUNT(wb_mapping_hooks);
WB_TAKE_PLACE_OF(mmap, wb_mmap);
WB_TAKE_PLACE_OF(mmap64, wb_mmap64);
WB_TAKE_PLACE_OF(mremap, wb_mremap);
WB_TAKE_PLACE_OF(munmap, wb_munmap);
