/* The library that asked: the one that the caller's code lies in. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>
#include <unwind.h>

#include "recorder.h"

/* Libraries that only pass a request on. */
static const char *const passing_on[] = {"libstdc++.so", "libc++.so", "libc++abi.so"};
static const char *const runtime[] = {"libcudart.so", "libcuda.so"};
static const uintptr_t LONGEST_CALL = 6, LEAST_PAGE = 4096; /* bytes */

static const char *file_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static uint32_t main_program(void) {
    static _Atomic uint32_t known;
    uint32_t id = atomic_load(&known);
    if (id) return id;
    char path[WB_PATH];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    path[length > 0 ? length : 0] = 0;
    atomic_store(&known, id = wb_name(length > 0 ? file_name(path) : "main program"));
    return id;
}

static const char *library(const void *code, struct dl_find_object *found) {
    if (_dl_find_object((void *)code, found)) return NULL;
    return file_name(found->dlfo_link_map->l_name);
}

static bool is_one_of(const char *const *libraries, size_t count, const char *name) {
    for (size_t i = 0; i < count; i++)
        if (strncmp(name, libraries[i], strlen(libraries[i])) == 0) return true;
    return false;
}

static bool passes_on(const char *name) { return is_one_of(passing_on, WB_COUNT(passing_on), name); }

/* Whether a call can stand before this address: not so at the first of a library, which words of the stack often are. */
static bool is_after_code(const struct dl_find_object *object, uintptr_t address) {
    const ElfW(Ehdr) *file = object->dlfo_map_start;
    if (memcmp(file->e_ident, ELFMAG, SELFMAG) != 0) return false;
    const ElfW(Phdr) *part = (const ElfW(Phdr) *)((const char *)file + file->e_phoff);
    uintptr_t at = address - LONGEST_CALL - object->dlfo_link_map->l_addr;
    for (int i = 0; i < file->e_phnum; i++)
        if (part[i].p_type == PT_LOAD && part[i].p_flags & PF_X && part[i].p_memsz > LONGEST_CALL &&
            at - part[i].p_vaddr < part[i].p_memsz - LONGEST_CALL)
            return true;
    return false;
}

/* Whether the instruction before `code` is a call, so that `code` is where a function returns to. */
static bool follows_call(const uint8_t *code) {
#if defined(__x86_64__)
    bool direct = code[-5] == 0xe8;
    bool through_memory = code[-6] == 0xff && code[-5] == 0x15;
    bool through_register = code[-2] == 0xff && (code[-1] & 0xf8) == 0xd0;
    bool near_memory = code[-3] == 0xff && (code[-2] & 0x38) == 0x10;
    return direct || through_memory || through_register || near_memory;
#elif defined(__aarch64__)
    uint32_t before = ((const uint32_t *)code)[-1];
    return (before & 0xfc000000u) == 0x94000000u || (before & 0xfffffc1fu) == 0xd63f0000u;
#else
    return (void)code, false;
#endif
}

/* Where the system does not let us ask: no. */
static bool is_there(const void *address) {
    char byte;
    struct iovec here = {&byte, 1}, there = {(void *)address, 1};
    int before = errno; /* the program's own */
    bool answer = process_vm_readv(getpid(), &here, 1, &there, 1, 0) == 1;
    errno = before;
    return answer;
}

/* So many words further, or where the stack ends before: that of a fiber may, and nothing lies behind it. */
static void *const *words_on(void *const *word, size_t count) {
    uintptr_t next = ((uintptr_t)word | (LEAST_PAGE - 1)) + 1;
    bool all = (uintptr_t)(word + count) <= next || is_there((const void *)next);
    return all ? word + count : (void *const *)next;
}

/* The name of the library that called the one that passes on: that of the next return address up the stack. The frames
 * between are those of operator new, a few words each, so the search is short. */
static const char *caller_above(const void *code, void *const *frame, struct dl_find_object *found) {
    struct dl_find_object self;
    void *const *word = frame, *const *last = words_on(frame, 64 + 48);
    if (_dl_find_object((void *)caller_above, &self)) return NULL;
    while (word < last && word < frame + 64 && *word != code) word++;
    for (void *const *end = word + 48; word < last && word < end; word++) {
        const char *name = library(*word, found);
        if (!name || passes_on(name) || found->dlfo_map_start == self.dlfo_map_start) continue;
        if (is_after_code(found, (uintptr_t)*word) && follows_call(*word)) return name;
    }
    return NULL;
}

/* NULL: code of no library; empty: the program itself. */
static uint32_t owner(const char *name) {
    if (!name) return wb_name("generated code");
    return *name ? wb_name(name) : main_program();
}

uint32_t wb_owner(const void *code, void *const *frame) {
    struct dl_find_object found;
    const char *name = library(code, &found);
    if (name && frame && passes_on(name)) {
        const char *above = caller_above(code, frame, &found);
        name = above ? above : name;
    }
    return owner(name);
}

/* --- of calls of the CUDA driver, a few frames above which stands the library that called CUDA's runtime ------------- */

struct caller {
    uintptr_t self; /* where this library lies */
    const char *name;
};

static _Unwind_Reason_Code find_caller(struct _Unwind_Context *context, void *into) {
    struct caller *caller = into;
    struct dl_find_object found;
    const char *name = library((const void *)(_Unwind_GetIP(context) - 1), &found);
    if (name && (uintptr_t)found.dlfo_map_start == caller->self) return _URC_NO_REASON;
    caller->name = name;
    return name && is_one_of(runtime, WB_COUNT(runtime), name) ? _URC_NO_REASON : _URC_NORMAL_STOP;
}

uint32_t wb_owner_of_driver(void) {
    struct dl_find_object self;
    struct caller caller = {.name = NULL};
    if (_dl_find_object((void *)wb_owner_of_driver, &self) == 0) caller.self = (uintptr_t)self.dlfo_map_start;
    _Unwind_Backtrace(find_caller, &caller);
    return owner(caller.name);
}
