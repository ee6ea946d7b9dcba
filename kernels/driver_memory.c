/* Memory that the CUDA driver hands out at an address: of the device, managed, and page-locked on the host. */
#define _GNU_SOURCE
#include "driver.h"

#define GRANULE ((size_t)2 << 20) /* the driver takes device memory from the GPU in pieces of 2 MiB */

bool wb_records_driver(void) { return wb_limit() != SIZE_MAX && atomic_load(&wb_settings.driver); }

struct wb_record wb_driver_event(uint8_t tier, uint64_t address, size_t bytes) {
    return (struct wb_record){.kind = WB_ALLOC,
                              .layer = WB_DRIVER,
                              .tier = tier,
                              .device = tier == WB_GPU ? wb_current_device() : -1,
                              .address = address,
                              .bytes = bytes,
                              .asked = bytes};
}

void wb_driver_emit(struct wb_record event) {
    if (wb_records_driver()) wb_emit(&event, event.kind == WB_ALLOC && wb_keeps_stack(event.bytes));
}

void wb_driver_emit_free(uint64_t address) {
    wb_driver_emit((struct wb_record){.kind = WB_FREE, .layer = WB_DRIVER, .address = address, .device = -1});
}

/* --- of the device ------------------------------------------------------------------------------------------------ */

/* Up to half a granule comes out of granules that several requests share. */
static size_t whole_granules(size_t bytes) {
    return bytes > GRANULE / 2 ? (bytes + GRANULE - 1) / GRANULE * GRANULE : bytes;
}

static void took_device(const wb_device_ptr *address, size_t bytes, wb_status status) {
    if (!wb_records_driver()) return;
    struct wb_record event = wb_driver_event(WB_GPU, status ? 0 : *address, whole_granules(bytes));
    event.asked = bytes;
    wb_driver_took(event, status);
}

WB_DRIVER_HOOK(cuMemAlloc_v2, (wb_device_ptr *address, size_t bytes)) {
    WB_NEEDS(cuMemAlloc_v2);
    wb_status status = real_cuMemAlloc_v2(address, bytes);
    took_device(address, bytes, status);
    return status;
}

WB_DRIVER_HOOK(cuMemAllocPitch_v2,
               (wb_device_ptr *address, size_t *pitch, size_t width, size_t height, unsigned element)) {
    WB_NEEDS(cuMemAllocPitch_v2);
    wb_status status = real_cuMemAllocPitch_v2(address, pitch, width, height, element);
    took_device(address, (status ? width : *pitch) * height, status);
    return status;
}

WB_DRIVER_HOOK(cuMemAllocManaged, (wb_device_ptr *address, size_t bytes, unsigned flags)) {
    WB_NEEDS(cuMemAllocManaged);
    wb_status status = real_cuMemAllocManaged(address, bytes, flags);
    took_device(address, bytes, status);
    return status;
}

WB_DRIVER_HOOK(cuMemFree_v2, (wb_device_ptr address)) {
    WB_NEEDS(cuMemFree_v2);
    struct wb_giving giving = wb_driver_gives(address);
    wb_status status = real_cuMemFree_v2(address);
    wb_driver_gave(giving, status);
    return status;
}

/* --- of the device, in the order of a stream ---------------------------------------------------------------------- */

static void took_on_stream(const wb_device_ptr *address, size_t bytes, void *stream, wb_status status) {
    if (!wb_records_driver() || wb_is_capturing(stream)) return;
    struct wb_record event = wb_driver_event(WB_GPU, status ? 0 : *address, bytes);
    event.stream = (uintptr_t)stream;
    wb_driver_took(event, status);
}

static struct wb_giving gives_on_stream(wb_device_ptr address, void *stream) {
    return wb_driver_gives(wb_records_driver() && !wb_is_capturing(stream) ? address : 0);
}

#define ON_STREAM(suffix)                                                                             \
    WB_DRIVER_HOOK(cuMemAllocAsync##suffix, (wb_device_ptr * address, size_t bytes, void *stream)) {  \
        WB_NEEDS(cuMemAllocAsync##suffix);                                                            \
        wb_status status = real_cuMemAllocAsync##suffix(address, bytes, stream);                      \
        took_on_stream(address, bytes, stream, status);                                               \
        return status;                                                                                \
    }                                                                                                 \
    WB_DRIVER_HOOK(cuMemAllocFromPoolAsync##suffix,                                                   \
                   (wb_device_ptr * address, size_t bytes, void *pool, void *stream)) {               \
        WB_NEEDS(cuMemAllocFromPoolAsync##suffix);                                                    \
        wb_status status = real_cuMemAllocFromPoolAsync##suffix(address, bytes, pool, stream);        \
        took_on_stream(address, bytes, stream, status);                                               \
        return status;                                                                                \
    }                                                                                                 \
    WB_DRIVER_HOOK(cuMemFreeAsync##suffix, (wb_device_ptr address, void *stream)) {                   \
        WB_NEEDS(cuMemFreeAsync##suffix);                                                             \
        struct wb_giving giving = gives_on_stream(address, stream);                                   \
        wb_status status = real_cuMemFreeAsync##suffix(address, stream);                              \
        wb_driver_gave(giving, status);                                                               \
        return status;                                                                                \
    }
ON_STREAM()
ON_STREAM(_ptsz)

/* --- of the host -------------------------------------------------------------------------------------------------- */

static void took_host(void *const *address, size_t bytes, wb_status status) {
    if (wb_records_driver()) wb_driver_took(wb_driver_event(WB_PINNED, status ? 0 : (uintptr_t)*address, bytes), status);
}

WB_DRIVER_HOOK(cuMemHostAlloc, (void **address, size_t bytes, unsigned flags)) {
    WB_NEEDS(cuMemHostAlloc);
    wb_status status = real_cuMemHostAlloc(address, bytes, flags);
    took_host(address, bytes, status);
    return status;
}

WB_DRIVER_HOOK(cuMemAllocHost_v2, (void **address, size_t bytes)) {
    WB_NEEDS(cuMemAllocHost_v2);
    wb_status status = real_cuMemAllocHost_v2(address, bytes);
    took_host(address, bytes, status);
    return status;
}

WB_DRIVER_HOOK(cuMemFreeHost, (void *address)) {
    WB_NEEDS(cuMemFreeHost);
    struct wb_giving giving = wb_driver_gives((uintptr_t)address);
    wb_status status = real_cuMemFreeHost(address);
    wb_driver_gave(giving, status);
    return status;
}

/* Memory of the host's that is locked where it lies: until it is let go it counts here and not there. */
WB_DRIVER_HOOK(cuMemHostRegister_v2, (void *address, size_t bytes, unsigned flags)) {
    WB_NEEDS(cuMemHostRegister_v2);
    wb_status status = real_cuMemHostRegister_v2(address, bytes, flags);
    if (status != WB_SUCCESS || !wb_records_driver()) return status;
    struct wb_record event = wb_driver_event(WB_PINNED, (uintptr_t)address, bytes);
    event.flags = WB_REGISTERED;
    wb_driver_took(event, status);
    return status;
}

WB_DRIVER_HOOK(cuMemHostUnregister, (void *address)) {
    WB_NEEDS(cuMemHostUnregister);
    struct wb_giving giving = wb_driver_gives((uintptr_t)address);
    wb_status status = real_cuMemHostUnregister(address);
    wb_driver_gave(giving, status);
    return status;
}

const struct wb_hook wb_memory_hooks[] = {
    WB_DRIVER_ENTRY(cuMemAlloc_v2),
    WB_DRIVER_ENTRY(cuMemAllocPitch_v2),
    WB_DRIVER_ENTRY(cuMemAllocManaged),
    WB_DRIVER_ENTRY(cuMemFree_v2),
    WB_DRIVER_ENTRY(cuMemAllocAsync),
    WB_DRIVER_ENTRY(cuMemAllocAsync_ptsz),
    WB_DRIVER_ENTRY(cuMemAllocFromPoolAsync),
    WB_DRIVER_ENTRY(cuMemAllocFromPoolAsync_ptsz),
    WB_DRIVER_ENTRY(cuMemFreeAsync),
    WB_DRIVER_ENTRY(cuMemFreeAsync_ptsz),
    WB_DRIVER_ENTRY(cuMemHostAlloc),
    WB_DRIVER_ENTRY(cuMemAllocHost_v2),
    WB_DRIVER_ENTRY(cuMemFreeHost),
    WB_DRIVER_ENTRY(cuMemHostRegister_v2),
    WB_DRIVER_ENTRY(cuMemHostUnregister),
};
const size_t wb_memory_hook_count = WB_COUNT(wb_memory_hooks);
