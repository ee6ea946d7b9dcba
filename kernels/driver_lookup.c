/* How calls of the CUDA driver come to the hooks. Programs do not link the driver: CUDA's runtime asks dlsym for
 * cuGetProcAddress, and that for everything else. So these two answer with the hooks. What is linked directly finds
 * the hooks by their names; what looked its functions up before the recording began keeps them in its data, where
 * wb_redirect finds them. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <string.h>

#include "driver.h"

#if defined(__x86_64__)
#define OLDEST_GLIBC "GLIBC_2.2.5"
#else
#define OLDEST_GLIBC "GLIBC_2.17"
#endif

struct wb_driver wb_driver;

static const struct {
    const struct wb_hook *hooks;
    const size_t *count;
} tables[] = {
    {wb_lookup_hooks, &wb_lookup_hook_count},     {wb_memory_hooks, &wb_memory_hook_count},
    {wb_virtual_hooks, &wb_virtual_hook_count},   {wb_measured_hooks, &wb_measured_hook_count},
    {wb_launch_hooks, &wb_launch_hook_count},     {wb_copy_hooks, &wb_copy_hook_count},
};

/* --- the driver's own functions ----------------------------------------------------------------------------------- */

static void find_all(void *library) {
    for (size_t t = 0; t < WB_COUNT(tables); t++)
        for (size_t i = 0; i < *tables[t].count; i++)
            *tables[t].hooks[i].real = wb_dlsym_beyond(library, tables[t].hooks[i].symbol);
    wb_driver.device_count = (wb_status(*)(int *))wb_dlsym_beyond(library, "cuDeviceGetCount");
    wb_driver.device_uuid = (wb_status(*)(unsigned char *, int))wb_dlsym_beyond(library, "cuDeviceGetUuid_v2");
    wb_driver.current_device = (wb_status(*)(int *))wb_dlsym_beyond(library, "cuCtxGetDevice");
    wb_driver.is_capturing = (wb_status(*)(void *, int *))wb_dlsym_beyond(library, "cuStreamIsCapturing");
    wb_driver.pointer_attribute =
        (wb_status(*)(void *, int, wb_device_ptr))wb_dlsym_beyond(library, "cuPointerGetAttribute");
    wb_driver.memory_property =
        (wb_status(*)(void *, uint64_t))wb_dlsym_beyond(library, "cuMemGetAllocationPropertiesFromHandle");
}

bool wb_find_driver(void) {
    static _Atomic bool found;
    if (WB_LIKELY(atomic_load_explicit(&found, memory_order_acquire))) return true;
    void *library = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
    if (!library) return false;
    find_all(library);
    atomic_store_explicit(&found, true, memory_order_release);
    return true;
}

int16_t wb_current_device(void) {
    int device = 0;
    if (wb_driver.current_device && wb_driver.current_device(&device)) device = 0;
    return wb_device_number(device);
}

bool wb_is_capturing(void *stream) {
    int status = 0;
    return wb_driver.is_capturing && wb_driver.is_capturing(stream, &status) == WB_SUCCESS && status;
}

/* --- answering with the hooks ------------------------------------------------------------------------------------- */

static bool is_hook(const struct wb_hook *hook, const void *function) { return function == hook->ours; }
static bool is_hooked(const struct wb_hook *hook, const void *function) { return function == *hook->real; }

static const struct wb_hook *among(bool (*fits)(const struct wb_hook *, const void *), const void *function) {
    for (size_t t = 0; t < WB_COUNT(tables); t++)
        for (size_t i = 0; i < *tables[t].count; i++)
            if (fits(&tables[t].hooks[i], function)) return &tables[t].hooks[i];
    return NULL;
}

/* What is given to someone who looks a function up and would have got this one. */
static void *stand_in(void *function) {
    if (!function || !wb_find_driver()) return function;
    const struct wb_hook *hook = among(is_hooked, function);
    return hook ? hook->ours : function;
}

static void *(*real_dlsym)(void *, const char *);

void *wb_dlsym_beyond(void *handle, const char *symbol) {
    if (WB_UNLIKELY(!real_dlsym)) real_dlsym = (void *(*)(void *, const char *))dlvsym(RTLD_NEXT, "dlsym", OLDEST_GLIBC);
    return real_dlsym(handle, symbol);
}

/* dlsym looks at who called it where it is asked for the next one, so that call must be a jump: the compiler makes one
 * of it, since nothing is left to do here. */
static void *wb_dlsym(void *handle, const char *symbol) {
    if (WB_UNLIKELY(!real_dlsym)) wb_dlsym_beyond(RTLD_NEXT, "dlsym");
    if (WB_LIKELY(symbol[0] != 'c' || symbol[1] != 'u') || handle == RTLD_NEXT) return real_dlsym(handle, symbol);
    void *function = real_dlsym(handle, symbol);
    if (!function) return real_dlsym(handle, symbol); /* the program's own scope may know more than this library's */
    const struct wb_hook *hook = among(is_hook, function);
    if (hook && (!wb_find_driver() || !*hook->real)) return NULL; /* nobody has it: the name is only taken here */
    return stand_in(function);
}

WB_DRIVER_HOOK(cuGetProcAddress, (const char *symbol, void **function, int version, uint64_t flags)) {
    WB_NEEDS(cuGetProcAddress);
    wb_status status = real_cuGetProcAddress(symbol, function, version, flags);
    if (status == WB_SUCCESS && function) *function = stand_in(*function);
    return status;
}

WB_DRIVER_HOOK(cuGetProcAddress_v2, (const char *symbol, void **function, int version, uint64_t flags, int *found)) {
    WB_NEEDS(cuGetProcAddress_v2);
    wb_status status = real_cuGetProcAddress_v2(symbol, function, version, flags, found);
    if (status == WB_SUCCESS && function) *function = stand_in(*function);
    return status;
}

const struct wb_hook wb_lookup_hooks[] = {
    WB_DRIVER_ENTRY(cuGetProcAddress),
    WB_DRIVER_ENTRY(cuGetProcAddress_v2),
};
const size_t wb_lookup_hook_count = WB_COUNT(wb_lookup_hooks);

static const struct wb_hook dlsym_hook = {"dlsym", (void *)wb_dlsym, (void **)&real_dlsym};

const struct wb_hook *wb_driver_hook(const char *symbol) {
    if (strcmp(symbol, dlsym_hook.symbol) == 0) return &dlsym_hook;
    if (symbol[0] != 'c' || symbol[1] != 'u') return NULL;
    for (size_t t = 0; t < WB_COUNT(tables); t++)
        for (size_t i = 0; i < *tables[t].count; i++)
            if (strcmp(tables[t].hooks[i].symbol, symbol) == 0) return &tables[t].hooks[i];
    return NULL;
}

WB_TAKE_PLACE_OF(dlsym, wb_dlsym);

/* --- what was looked up before ------------------------------------------------------------------------------------ */

struct span {
    uintptr_t start, end;
};

static bool in(struct span span, uintptr_t address) { return address - span.start < span.end - span.start; }

static struct span library_of(const void *code) {
    struct dl_find_object object;
    if (!code || _dl_find_object((void *)code, &object)) return (struct span){0, 0};
    return (struct span){(uintptr_t)object.dlfo_map_start, (uintptr_t)object.dlfo_map_end};
}

struct redirection {
    struct span driver, self, sealed; /* sealed: what the loader has made read-only of the library at hand */
    bool restore;
    size_t changed;
};

static void redirect_words(struct redirection *redirection, uintptr_t *word, const uintptr_t *end) {
    struct span from = redirection->restore ? redirection->self : redirection->driver;
    for (; word < end; word++) {
        if (WB_LIKELY(!in(from, *word)) || in(redirection->sealed, (uintptr_t)word)) continue;
        const struct wb_hook *hook = among(redirection->restore ? is_hook : is_hooked, (void *)*word);
        if (!hook) continue;
        __atomic_store_n(word, (uintptr_t)(redirection->restore ? *hook->real : hook->ours), __ATOMIC_RELEASE);
        redirection->changed++;
    }
}

static struct span part_of(const struct dl_phdr_info *info, const ElfW(Phdr) *part) {
    uintptr_t start = info->dlpi_addr + part->p_vaddr;
    return (struct span){(start + 7) & ~(uintptr_t)7, (start + part->p_memsz) & ~(uintptr_t)7};
}

/* The data of one library. The driver's own is what its look-ups are answered from, and stays. */
static int redirect_object(struct dl_phdr_info *info, size_t size, void *into) {
    struct redirection *redirection = into;
    (void)size;
    redirection->sealed = (struct span){0, 0};
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_GNU_RELRO) redirection->sealed = part_of(info, &info->dlpi_phdr[i]);
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        struct span data = part_of(info, part);
        if (part->p_type != PT_LOAD || !(part->p_flags & PF_W)) continue;
        if (in(redirection->driver, data.start) || in(redirection->self, data.start)) continue;
        redirect_words(redirection, (uintptr_t *)data.start, (uintptr_t *)data.end);
    }
    return 0;
}

size_t wb_redirect(bool restore) {
    if (!wb_find_driver()) return 0;
    struct redirection redirection = {
        .driver = library_of((void *)wb_driver.device_count), .self = library_of((void *)wb_find_driver),
        .restore = restore};
    dl_iterate_phdr(redirect_object, &redirection);
    return redirection.changed;
}
