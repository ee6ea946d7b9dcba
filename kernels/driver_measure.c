/* Device memory that no call names: of contexts, loaded modules, streams, graphs. The device's used memory, which NVML
 * tells, is read after each call that makes or destroys one of these; a reading takes 3 to 5 us. Nothing here is called
 * in a steady state. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

#include "driver.h"

#define MOST_DEVICES 16

/* --- NVML, by CUDA's numbers of the devices ------------------------------------------------------------------------ */

struct memory_info { /* nvmlMemory_t */
    uint64_t total, free, used;
};

static struct {
    int (*memory_info)(void *device, struct memory_info *out);
    void *devices[MOST_DEVICES];
    int16_t numbers[MOST_DEVICES];
    _Atomic int count;
} nvml;

WB_PUBLIC int16_t wb_device_number(int device) {
    bool known = device >= 0 && device < atomic_load(&nvml.count);
    return known ? nvml.numbers[device] : (int16_t)device;
}

static void *handle_of(int (*find)(const char *, void **), int device) {
    static const char *const kinds[] = {"GPU", "MIG"};
    unsigned char id[16];
    void *handle = NULL;
    if (wb_driver.device_uuid(id, device)) return NULL;
    for (size_t kind = 0; kind < WB_COUNT(kinds) && !handle; kind++) {
        char text[48], *at = text + snprintf(text, sizeof text, "%s-", kinds[kind]);
        for (int i = 0; i < 16; i++)
            at += snprintf(at, 4, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", id[i]);
        if (find(text, &handle)) handle = NULL;
    }
    return handle;
}

static int16_t number_of(int (*index)(void *, unsigned *), void *handle, int device) {
    unsigned number;
    return handle && index && index(handle, &number) == 0 ? (int16_t)number : (int16_t)device;
}

static void start_nvml(void) {
    void *library = dlopen("libnvidia-ml.so.1", RTLD_LAZY);
    int (*start)(void) = library ? (int (*)(void))wb_dlsym_beyond(library, "nvmlInit_v2") : NULL;
    int (*find)(const char *, void **) =
        library ? (int (*)(const char *, void **))wb_dlsym_beyond(library, "nvmlDeviceGetHandleByUUID") : NULL;
    int count = 0;
    if (!start || !find || !wb_driver.device_uuid || start() || wb_driver.device_count(&count)) return;
    nvml.memory_info =
        (int (*)(void *, struct memory_info *))wb_dlsym_beyond(library, "nvmlDeviceGetMemoryInfo");
    int (*index)(void *, unsigned *) = (int (*)(void *, unsigned *))wb_dlsym_beyond(library, "nvmlDeviceGetIndex");
    for (int i = 0; i < count && i < MOST_DEVICES && nvml.memory_info; i++) {
        nvml.devices[i] = handle_of(find, i);
        nvml.numbers[i] = number_of(index, nvml.devices[i], i);
    }
    atomic_store(&nvml.count, nvml.memory_info ? (count < MOST_DEVICES ? count : MOST_DEVICES) : 0);
}

/* --- readings ------------------------------------------------------------------------------------------------------- */

struct reason { /* for a reading */
    uint32_t owner;
    uint8_t flags;
    uint64_t since; /* when what it is for began */
    size_t most;    /* bytes that it can have changed by, 0: any */
};

static void read_device(int device, struct reason reason) {
    struct memory_info memory;
    if (device >= atomic_load(&nvml.count) || !nvml.devices[device]) return;
    if (nvml.memory_info(nvml.devices[device], &memory)) return;
    struct wb_record event = wb_driver_event(WB_GPU, reason.since, memory.used);
    event.kind = WB_MEASURE;
    event.device = wb_device_number(device);
    event.asked = reason.most;
    event.owner = reason.owner;
    event.flags = reason.flags;
    wb_driver_emit(event);
}

static void measure(int device, struct reason reason) {
    if (!wb_records_driver()) return;
    wb_record_unmapped();
    if (device == WB_CURRENT_DEVICE && wb_driver.current_device && wb_driver.current_device(&device)) device = WB_ALL_DEVICES;
    if (device >= 0) read_device(device, reason);
    for (int each = 0; device < 0 && each < atomic_load(&nvml.count); each++) read_device(each, reason);
}

void wb_measure(const char *owner, int device, uint64_t since) {
    measure(device, (struct reason){.owner = wb_name(owner), .since = since});
}

uint64_t wb_measure_before(void) {
    measure(WB_CURRENT_DEVICE, (struct reason){.flags = WB_BASELINE});
    return wb_now();
}

void wb_measure_outlived(uint32_t owner, int device, size_t bytes) {
    measure(device, (struct reason){.owner = owner, .flags = WB_OUTLIVED, .since = wb_now(), .most = bytes});
}

/* Once the driver is initialised, which is when it knows the devices. */
static void first_reading(struct reason reason) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (!wb_records_driver() || !wb_find_driver()) return;
    pthread_once(&once, start_nvml);
    measure(WB_ALL_DEVICES, reason);
}

WB_PUBLIC int wb_driver_measures(void) {
    int count = 0;
    if (wb_find_driver() && wb_driver.device_count(&count) == WB_SUCCESS)
        first_reading((struct reason){.flags = WB_BASELINE});
    return atomic_load(&nvml.count);
}

WB_DRIVER_HOOK(cuInit, (unsigned flags)) {
    WB_NEEDS(cuInit);
    uint64_t since = wb_now();
    wb_status status = real_cuInit(flags);
    static _Atomic bool done; /* every library that uses CUDA asks for it */
    if (status == WB_SUCCESS && !atomic_exchange(&done, true)) /* some is taken before a context is made */
        first_reading((struct reason){.owner = wb_name("context"), .since = since});
    return status;
}

/* --- what makes and destroys them ----------------------------------------------------------------------------------- */

#define MEASURED(owner, device, name, parameters, ...)              \
    WB_DRIVER_HOOK(name, parameters) {                              \
        WB_NEEDS(name);                                             \
        uint64_t since = wb_now();                                  \
        wb_status status = real_##name(__VA_ARGS__);                \
        if (status == WB_SUCCESS) wb_measure(owner, device, since); \
        return status;                                              \
    }
#define CONTEXT(...) MEASURED("context", __VA_ARGS__)
#define MODULE(...) MEASURED("modules", WB_CURRENT_DEVICE, __VA_ARGS__)
#define STREAM(...) MEASURED("streams", WB_CURRENT_DEVICE, __VA_ARGS__)
#define ARRAY(...) MEASURED("arrays", WB_CURRENT_DEVICE, __VA_ARGS__)

CONTEXT(device, cuDevicePrimaryCtxRetain, (void **made, int device), made, device)
CONTEXT(device, cuCtxCreate_v2, (void **made, unsigned flags, int device), made, flags, device)
CONTEXT(device, cuCtxCreate_v3, (void **made, void *affinity, int count, unsigned flags, int device), made, affinity,
        count, flags, device)
CONTEXT(device, cuCtxCreate_v4, (void **made, void *options, unsigned flags, int device), made, options, flags, device)
CONTEXT(WB_CURRENT_DEVICE, cuCtxSetLimit, (int limit, size_t value), limit, value)
CONTEXT(WB_CURRENT_DEVICE, cuCtxEnablePeerAccess, (void *context, unsigned flags), context, flags)

/* What goes with a context: what was handed out in it, and its modules, streams and graphs. */
static void context_ended(int device, uint64_t since) {
    wb_record_gone();
    measure(device, (struct reason){.owner = wb_name("context"), .flags = WB_CONTEXT_ENDED, .since = since});
}

#define CONTEXT_ENDS(device, name, parameters, ...)              \
    WB_DRIVER_HOOK(name, parameters) {                           \
        WB_NEEDS(name);                                          \
        uint64_t since = wb_now();                               \
        wb_status status = real_##name(__VA_ARGS__);             \
        if (status == WB_SUCCESS) context_ended(device, since);  \
        return status;                                           \
    }
CONTEXT_ENDS(device, cuDevicePrimaryCtxRelease, (int device), device)
CONTEXT_ENDS(device, cuDevicePrimaryCtxRelease_v2, (int device), device)
CONTEXT_ENDS(device, cuDevicePrimaryCtxReset, (int device), device)
CONTEXT_ENDS(device, cuDevicePrimaryCtxReset_v2, (int device), device)
CONTEXT_ENDS(WB_ALL_DEVICES, cuCtxDestroy_v2, (void *context), context)

MODULE(cuModuleLoad, (void **made, const char *path), made, path)
MODULE(cuModuleLoadData, (void **made, const void *image), made, image)
MODULE(cuModuleLoadDataEx, (void **made, const void *image, unsigned count, int *options, void **values), made, image,
       count, options, values)
MODULE(cuModuleLoadFatBinary, (void **made, const void *image), made, image)
MODULE(cuModuleUnload, (void *module), module)
MODULE(cuLibraryLoadData,
       (void **made, const void *code, int *jit, void **jit_values, unsigned jit_count, int *options, void **values,
        unsigned count),
       made, code, jit, jit_values, jit_count, options, values, count)
MODULE(cuLibraryLoadFromFile,
       (void **made, const char *path, int *jit, void **jit_values, unsigned jit_count, int *options, void **values,
        unsigned count),
       made, path, jit, jit_values, jit_count, options, values, count)
MODULE(cuLibraryUnload, (void *library), library)
MODULE(cuFuncLoad, (void *function), function)

STREAM(cuStreamCreate, (void **made, unsigned flags), made, flags)
STREAM(cuStreamCreateWithPriority, (void **made, unsigned flags, int priority), made, flags, priority)
STREAM(cuStreamDestroy_v2, (void *stream), stream)

ARRAY(cuArrayCreate_v2, (void **made, const void *shape), made, shape)
ARRAY(cuArray3DCreate_v2, (void **made, const void *shape), made, shape)
ARRAY(cuArrayDestroy, (void *array), array)
ARRAY(cuMipmappedArrayCreate, (void **made, const void *shape, unsigned levels), made, shape, levels)
ARRAY(cuMipmappedArrayDestroy, (void *array), array)

const struct wb_hook wb_measured_hooks[] = {
    WB_DRIVER_ENTRY(cuInit),
    WB_DRIVER_ENTRY(cuDevicePrimaryCtxRetain),
    WB_DRIVER_ENTRY(cuDevicePrimaryCtxRelease),
    WB_DRIVER_ENTRY(cuDevicePrimaryCtxRelease_v2),
    WB_DRIVER_ENTRY(cuDevicePrimaryCtxReset),
    WB_DRIVER_ENTRY(cuDevicePrimaryCtxReset_v2),
    WB_DRIVER_ENTRY(cuCtxCreate_v2),
    WB_DRIVER_ENTRY(cuCtxCreate_v3),
    WB_DRIVER_ENTRY(cuCtxCreate_v4),
    WB_DRIVER_ENTRY(cuCtxDestroy_v2),
    WB_DRIVER_ENTRY(cuCtxSetLimit),
    WB_DRIVER_ENTRY(cuCtxEnablePeerAccess),
    WB_DRIVER_ENTRY(cuModuleLoad),
    WB_DRIVER_ENTRY(cuModuleLoadData),
    WB_DRIVER_ENTRY(cuModuleLoadDataEx),
    WB_DRIVER_ENTRY(cuModuleLoadFatBinary),
    WB_DRIVER_ENTRY(cuModuleUnload),
    WB_DRIVER_ENTRY(cuLibraryLoadData),
    WB_DRIVER_ENTRY(cuLibraryLoadFromFile),
    WB_DRIVER_ENTRY(cuLibraryUnload),
    WB_DRIVER_ENTRY(cuFuncLoad),
    WB_DRIVER_ENTRY(cuStreamCreate),
    WB_DRIVER_ENTRY(cuStreamCreateWithPriority),
    WB_DRIVER_ENTRY(cuStreamDestroy_v2),
    WB_DRIVER_ENTRY(cuArrayCreate_v2),
    WB_DRIVER_ENTRY(cuArray3DCreate_v2),
    WB_DRIVER_ENTRY(cuArrayDestroy),
    WB_DRIVER_ENTRY(cuMipmappedArrayCreate),
    WB_DRIVER_ENTRY(cuMipmappedArrayDestroy),
};
const size_t wb_measured_hook_count = WB_COUNT(wb_measured_hooks);
