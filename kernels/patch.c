/* Recording in a process that runs already: references to the hooked functions are pointed at the hooks, in every
 * library that is loaded. libc and the loader keep theirs. See spool.h. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "driver.h"

#if defined(__x86_64__)
enum { CALLED = R_X86_64_JUMP_SLOT, REFERENCED = R_X86_64_GLOB_DAT, STORED = R_X86_64_64 };
#else
enum { CALLED = R_AARCH64_JUMP_SLOT, REFERENCED = R_AARCH64_GLOB_DAT, STORED = R_AARCH64_ABS64 };
#endif

static _Atomic int patched; /* whether libraries that are loaded from here on are to be patched too */
static void *(*real_dlopen)(const char *, int);
static void *wb_dlopen(const char *path, int flags);
static const struct wb_hook loader_hook = {"dlopen", (void *)wb_dlopen, (void **)&real_dlopen};

struct object {
    struct dl_phdr_info *info;
    const ElfW(Sym) * symbols;
    const char *strings;
    const ElfW(Rela) * references, *calls;
    size_t reference_bytes, call_bytes;
    bool restore;
    size_t changed;
};

static const ElfW(Phdr) * segment(const struct object *object, ElfW(Word) type) {
    for (int i = 0; i < object->info->dlpi_phnum; i++)
        if (object->info->dlpi_phdr[i].p_type == type) return &object->info->dlpi_phdr[i];
    return NULL;
}

/* The loader has added the load address to the pointers of most libraries, not to those of the kernel's own. */
static void *located(const struct object *object, ElfW(Addr) pointer) {
    return (void *)(pointer < object->info->dlpi_addr ? pointer + object->info->dlpi_addr : pointer);
}

static bool read_tables(struct object *object) {
    const ElfW(Phdr) *dynamic = segment(object, PT_DYNAMIC);
    if (!dynamic) return false;
    for (const ElfW(Dyn) *at = (void *)(object->info->dlpi_addr + dynamic->p_vaddr); at->d_tag != DT_NULL; at++) {
        if (at->d_tag == DT_SYMTAB) object->symbols = located(object, at->d_un.d_ptr);
        if (at->d_tag == DT_STRTAB) object->strings = located(object, at->d_un.d_ptr);
        if (at->d_tag == DT_RELA) object->references = located(object, at->d_un.d_ptr);
        if (at->d_tag == DT_RELASZ) object->reference_bytes = at->d_un.d_val;
        if (at->d_tag == DT_JMPREL) object->calls = located(object, at->d_un.d_ptr);
        if (at->d_tag == DT_PLTRELSZ) object->call_bytes = at->d_un.d_val;
    }
    return object->symbols && object->strings;
}

/* --- one reference ------------------------------------------------------------------------------------------------ */

static bool inside(const struct object *object, uintptr_t address) {
    for (int i = 0; i < object->info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->info->dlpi_phdr[i];
        if (part->p_type == PT_LOAD && address - object->info->dlpi_addr - part->p_vaddr < part->p_memsz) return true;
    }
    return false;
}

static const struct wb_hook *among(const struct wb_hook *hooks, size_t count, const char *symbol) {
    for (size_t i = 0; i < count; i++)
        if (strcmp(hooks[i].symbol, symbol) == 0) return &hooks[i];
    return NULL;
}

static const struct wb_hook *hook_of(const char *symbol) {
    const struct wb_hook *hook = among(wb_host_hooks, wb_host_hook_count, symbol);
    if (!hook) hook = among(wb_mapping_hooks, wb_mapping_hook_count, symbol);
    if (!hook) hook = among(wb_torch_hooks, wb_torch_hook_count, symbol);
    if (!hook) hook = wb_driver_hook(symbol);
    return hook ? hook : among(&loader_hook, 1, symbol);
}

/* What the reference is to be changed to, or NULL. One that leads to a function of the same name elsewhere (a library
 * with an allocator of its own) stays. One that was never followed leads into its own library, to the code that will
 * resolve it: to the hooked function, since this library does not define the symbol itself. */
static void *wanted(const struct object *object, const struct wb_hook *hook, void *value, bool defined) {
    if (!*hook->real) return NULL;
    if (object->restore) return value == hook->ours ? *hook->real : NULL;
    if (value == *hook->real) return hook->ours;
    bool unresolved = value && inside(object, (uintptr_t)value);
    return unresolved && (!defined || inside(object, (uintptr_t)*hook->real)) ? hook->ours : NULL;
}

/* Where the loader has made the table read-only it is opened for the moment of the change. */
static bool change(const struct object *object, void **place, void *value) {
    const ElfW(Phdr) *sealed = segment(object, PT_GNU_RELRO);
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), start = (uintptr_t)place & ~(page - 1);
    bool is_sealed = sealed && (uintptr_t)place - object->info->dlpi_addr - sealed->p_vaddr < sealed->p_memsz;
    if (is_sealed && mprotect((void *)start, page, PROT_READ | PROT_WRITE)) return false;
    __atomic_store_n(place, value, __ATOMIC_RELEASE);
    if (is_sealed) mprotect((void *)start, page, PROT_READ);
    return true;
}

static void patch_one(struct object *object, const ElfW(Rela) * reference) {
    unsigned type = (unsigned)ELF64_R_TYPE(reference->r_info);
    if ((type != CALLED && type != REFERENCED && type != STORED) || (type == STORED && reference->r_addend)) return;
    const ElfW(Sym) *symbol = &object->symbols[ELF64_R_SYM(reference->r_info)];
    const struct wb_hook *hook = hook_of(object->strings + symbol->st_name);
    if (!hook) return;
    void **place = (void **)(object->info->dlpi_addr + reference->r_offset);
    void *value = wanted(object, hook, *place, symbol->st_shndx != SHN_UNDEF);
    if (value && change(object, place, value)) object->changed++;
}

static void patch_table(struct object *object, const ElfW(Rela) * table, size_t bytes) {
    for (size_t i = 0; table && i < bytes / sizeof *table; i++)
        if (ELF64_R_SYM(table[i].r_info)) patch_one(object, &table[i]);
}

/* --- all of them -------------------------------------------------------------------------------------------------- */

static bool keeps_its_own(const struct dl_phdr_info *info) {
    struct dl_find_object self;
    const char *name = strrchr(info->dlpi_name, '/');
    name = name ? name + 1 : info->dlpi_name;
    if (strncmp(name, "libc.so", 7) == 0 || strncmp(name, "ld-linux", 8) == 0 || strstr(name, "vdso")) return true;
    return _dl_find_object((void *)wb_patch, &self) == 0 && self.dlfo_link_map->l_addr == info->dlpi_addr;
}

static int patch_object(struct dl_phdr_info *info, size_t size, void *into) {
    struct object object = {.info = info, .restore = !atomic_load(&patched)};
    (void)size;
    if (keeps_its_own(info) || !read_tables(&object)) return 0;
    patch_table(&object, object.references, object.reference_bytes);
    patch_table(&object, object.calls, object.call_bytes);
    *(size_t *)into += object.changed;
    return 0;
}

static size_t patch_all(void) {
    size_t changed = 0;
    if (!real_dlopen) real_dlopen = (void *(*)(const char *, int))wb_beyond("dlopen");
    wb_find_torch();
    wb_find_driver();
    wb_dlsym_beyond(RTLD_DEFAULT, "dlsym");
    dl_iterate_phdr(patch_object, &changed);
    return changed;
}

WB_PUBLIC size_t wb_patch(void) {
    atomic_store(&patched, 1);
    return patch_all() + wb_redirect(false);
}

WB_PUBLIC size_t wb_unpatch(void) {
    atomic_store(&patched, 0);
    return patch_all() + wb_redirect(true);
}

/* --- libraries that are loaded later ------------------------------------------------------------------------------ */

/* The loader looks for a library where the one that calls dlopen says. The caller it sees is this library, so the
 * folders of the true one are gone through here. */
static void *open_for(const void *caller, const char *name, int flags) {
    struct dl_find_object object;
    void *library = real_dlopen(name, flags | RTLD_NOLOAD);
    if (library || _dl_find_object((void *)caller, &object)) return library;
    Dl_serinfo size;
    if (dlinfo(object.dlfo_link_map, RTLD_DI_SERINFOSIZE, &size)) return NULL;
    _Alignas(Dl_serinfo) char memory[size.dls_size];
    Dl_serinfo *folders = (Dl_serinfo *)memory;
    *folders = size;
    if (dlinfo(object.dlfo_link_map, RTLD_DI_SERINFO, folders)) return NULL;
    for (unsigned i = 0; i < folders->dls_cnt && !library; i++) {
        char path[WB_PATH];
        int length = snprintf(path, sizeof path, "%s/%s", folders->dls_serpath[i].dls_name, name);
        if (length < (int)sizeof path && access(path, F_OK) == 0) library = real_dlopen(path, flags);
    }
    return library;
}

static void *wb_dlopen(const char *path, int flags) {
    bool searched = path && *path && !strchr(path, '/') && !(flags & RTLD_NOLOAD);
    void *library = searched ? open_for(__builtin_return_address(0), path, flags) : NULL;
    if (!library) library = real_dlopen(path, flags);
    if (library && atomic_load(&patched)) patch_all();
    return library;
}
