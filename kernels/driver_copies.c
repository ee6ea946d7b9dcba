/* Copies, when they are submitted. When a copy runs on the device only CUPTI tells. Those that are captured into a
 * graph are part of its replays, and not seen. */
#define _GNU_SOURCE
#include "driver.h"

static _Atomic int wanted = 1;

WB_PUBLIC void wb_driver_copies(int on) { atomic_store(&wanted, on); }

/* Of the thread that is asked: whoever copies tells of it, and more than is seen here. */
WB_PUBLIC uint8_t *wb_telling_place(void) { return &wb_thread.tells_copies; }

static bool is_told(void) { return !atomic_load(&wanted) || !wb_records_driver() || wb_thread.tells_copies; }

struct call {
    uint64_t start_ns, ns;
    wb_status status;
};

static struct call called(uint64_t start_ns, wb_status status) {
    return (struct call){.start_ns = start_ns, .ns = wb_now() - start_ns, .status = status};
}

static void copied(uint8_t direction, size_t bytes, void *stream, struct call call) {
    if (call.status != WB_SUCCESS || is_told() || wb_is_capturing(stream)) return;
    struct wb_record event = wb_driver_event(WB_GPU, 0, bytes);
    event.kind = WB_COPY;
    event.flags = direction;
    event.stream = (uintptr_t)stream;
    event.time_ns = call.start_ns;
    event.thread = call.ns < UINT32_MAX ? (uint32_t)call.ns : UINT32_MAX;
    wb_write(&event);
}

static bool lies_on_device(wb_device_ptr address) {
    enum { MEMORY_TYPE = 2, OF_DEVICE = 2 };
    unsigned type = 0;
    if (!wb_driver.pointer_attribute || wb_driver.pointer_attribute(&type, MEMORY_TYPE, address)) return false;
    return type == OF_DEVICE; /* an address that CUDA does not know is of the host */
}

static uint8_t direction_between(bool to_device, bool from_device) {
    if (from_device) return to_device ? WB_DEVICE_TO_DEVICE : WB_DEVICE_TO_HOST;
    return to_device ? WB_HOST_TO_DEVICE : WB_HOST_TO_HOST;
}

/* Where the call does not say: by what lies at both ends. */
static void copied_somewhere(wb_device_ptr to, wb_device_ptr from, size_t bytes, void *stream, struct call call) {
    if (!is_told()) copied(direction_between(lies_on_device(to), lies_on_device(from)), bytes, stream, call);
}

#define WAITED(direction, name, to_type, from_type)                        \
    WB_DRIVER_HOOK(name, (to_type to, from_type from, size_t bytes)) {     \
        WB_NEEDS(name);                                                    \
        uint64_t start_ns = wb_now();                                      \
        struct call call = called(start_ns, real_##name(to, from, bytes)); \
        copied(direction, bytes, NULL, call);                              \
        return call.status;                                                \
    }
#define SUBMITTED(direction, name, to_type, from_type)                               \
    WB_DRIVER_HOOK(name, (to_type to, from_type from, size_t bytes, void *stream)) { \
        WB_NEEDS(name);                                                              \
        uint64_t start_ns = wb_now();                                                \
        struct call call = called(start_ns, real_##name(to, from, bytes, stream));   \
        copied(direction, bytes, stream, call);                                      \
        return call.status;                                                          \
    }
#define DIRECTED(direction, name, to_type, from_type)        \
    WAITED(direction, name##_v2, to_type, from_type)         \
    WAITED(direction, name##_v2_ptds, to_type, from_type)    \
    SUBMITTED(direction, name##Async_v2, to_type, from_type) \
    SUBMITTED(direction, name##Async_v2_ptsz, to_type, from_type)
DIRECTED(WB_HOST_TO_DEVICE, cuMemcpyHtoD, wb_device_ptr, const void *)
DIRECTED(WB_DEVICE_TO_HOST, cuMemcpyDtoH, void *, wb_device_ptr)
DIRECTED(WB_DEVICE_TO_DEVICE, cuMemcpyDtoD, wb_device_ptr, wb_device_ptr)

#define ANYWHERE(name)                                                           \
    WB_DRIVER_HOOK(name, (wb_device_ptr to, wb_device_ptr from, size_t bytes)) { \
        WB_NEEDS(name);                                                          \
        uint64_t start_ns = wb_now();                                            \
        struct call call = called(start_ns, real_##name(to, from, bytes));       \
        copied_somewhere(to, from, bytes, NULL, call);                           \
        return call.status;                                                      \
    }
#define ANYWHERE_ON_STREAM(name)                                                               \
    WB_DRIVER_HOOK(name, (wb_device_ptr to, wb_device_ptr from, size_t bytes, void *stream)) { \
        WB_NEEDS(name);                                                                        \
        uint64_t start_ns = wb_now();                                                          \
        struct call call = called(start_ns, real_##name(to, from, bytes, stream));             \
        copied_somewhere(to, from, bytes, stream, call);                                       \
        return call.status;                                                                    \
    }
ANYWHERE(cuMemcpy)
ANYWHERE(cuMemcpy_ptds)
ANYWHERE_ON_STREAM(cuMemcpyAsync)
ANYWHERE_ON_STREAM(cuMemcpyAsync_ptsz)

#define BETWEEN(name)                                                                                        \
    WB_DRIVER_HOOK(name, (wb_device_ptr to, void *to_context, wb_device_ptr from, void *from_context,        \
                          size_t bytes)) {                                                                   \
        WB_NEEDS(name);                                                                                      \
        uint64_t start_ns = wb_now();                                                                        \
        struct call call = called(start_ns, real_##name(to, to_context, from, from_context, bytes));         \
        copied(WB_PEER, bytes, NULL, call);                                                                  \
        return call.status;                                                                                  \
    }
#define BETWEEN_ON_STREAM(name)                                                                              \
    WB_DRIVER_HOOK(name, (wb_device_ptr to, void *to_context, wb_device_ptr from, void *from_context,        \
                          size_t bytes, void *stream)) {                                                     \
        WB_NEEDS(name);                                                                                      \
        uint64_t start_ns = wb_now();                                                                        \
        struct call call = called(start_ns, real_##name(to, to_context, from, from_context, bytes, stream)); \
        copied(WB_PEER, bytes, stream, call);                                                                \
        return call.status;                                                                                  \
    }
BETWEEN(cuMemcpyPeer)
BETWEEN(cuMemcpyPeer_ptds)
BETWEEN_ON_STREAM(cuMemcpyPeerAsync)
BETWEEN_ON_STREAM(cuMemcpyPeerAsync_ptsz)

/* --- of several rows ---------------------------------------------------------------------------------------------- */

/* Where an end of such a copy lies, beside the device and arrays, which are there too. UNIFIED: its address tells. */
enum { HOST = 1, UNIFIED = 4 };

struct rows { /* CUDA_MEMCPY2D */
    size_t from_x, from_y;
    int from_type;
    const void *from_host;
    wb_device_ptr from_device;
    void *from_array;
    size_t from_pitch, to_x, to_y;
    int to_type;
    void *to_host;
    wb_device_ptr to_device;
    void *to_array;
    size_t to_pitch, width, height;
};

struct box { /* CUDA_MEMCPY3D, and CUDA_MEMCPY3D_PEER with the contexts of both ends */
    size_t from_x, from_y, from_z, from_level;
    int from_type;
    const void *from_host;
    wb_device_ptr from_device;
    void *from_array, *from_context;
    size_t from_pitch, from_height, to_x, to_y, to_z, to_level;
    int to_type;
    void *to_host;
    wb_device_ptr to_device;
    void *to_array, *to_context;
    size_t to_pitch, to_height, width, height, depth;
};

static bool is_of_device(int type, wb_device_ptr address) {
    return type == UNIFIED ? lies_on_device(address) : type != HOST;
}

#define DIRECTION_OF(shape)                                                \
    direction_between(is_of_device((shape)->to_type, (shape)->to_device), \
                      is_of_device((shape)->from_type, (shape)->from_device))

static void copied_rows(const struct rows *rows, void *stream, struct call call) {
    if (!is_told()) copied(DIRECTION_OF(rows), rows->width * rows->height, stream, call);
}

static void copied_box(const struct box *box, void *stream, struct call call) {
    if (!is_told()) copied(DIRECTION_OF(box), box->width * box->height * box->depth, stream, call);
}

static void copied_box_between(const struct box *box, void *stream, struct call call) {
    copied(WB_PEER, box->width * box->height * box->depth, stream, call);
}

#define SHAPED(shape, told, name)                                \
    WB_DRIVER_HOOK(name, (const struct shape *of)) {             \
        WB_NEEDS(name);                                          \
        uint64_t start_ns = wb_now();                            \
        struct call call = called(start_ns, real_##name(of));    \
        told(of, NULL, call);                                    \
        return call.status;                                      \
    }
#define SHAPED_ON_STREAM(shape, told, name)                           \
    WB_DRIVER_HOOK(name, (const struct shape *of, void *stream)) {    \
        WB_NEEDS(name);                                               \
        uint64_t start_ns = wb_now();                                 \
        struct call call = called(start_ns, real_##name(of, stream)); \
        told(of, stream, call);                                       \
        return call.status;                                           \
    }
SHAPED(rows, copied_rows, cuMemcpy2D_v2)
SHAPED(rows, copied_rows, cuMemcpy2D_v2_ptds)
SHAPED(rows, copied_rows, cuMemcpy2DUnaligned_v2)
SHAPED(rows, copied_rows, cuMemcpy2DUnaligned_v2_ptds)
SHAPED_ON_STREAM(rows, copied_rows, cuMemcpy2DAsync_v2)
SHAPED_ON_STREAM(rows, copied_rows, cuMemcpy2DAsync_v2_ptsz)
SHAPED(box, copied_box, cuMemcpy3D_v2)
SHAPED(box, copied_box, cuMemcpy3D_v2_ptds)
SHAPED_ON_STREAM(box, copied_box, cuMemcpy3DAsync_v2)
SHAPED_ON_STREAM(box, copied_box, cuMemcpy3DAsync_v2_ptsz)
SHAPED(box, copied_box_between, cuMemcpy3DPeer)
SHAPED(box, copied_box_between, cuMemcpy3DPeer_ptds)
SHAPED_ON_STREAM(box, copied_box_between, cuMemcpy3DPeerAsync)
SHAPED_ON_STREAM(box, copied_box_between, cuMemcpy3DPeerAsync_ptsz)

/* --- several at once ---------------------------------------------------------------------------------------------- */

static void copied_batch(wb_device_ptr *to, wb_device_ptr *from, size_t *bytes, size_t count, void *stream,
                         struct call call) {
    for (size_t i = 0; i < count; i++) copied_somewhere(to[i], from[i], bytes[i], stream, call);
}

#define BATCH(name)                                                                                                   \
    WB_DRIVER_HOOK(name, (wb_device_ptr *to, wb_device_ptr *from, size_t *bytes, size_t count, void *attributes,      \
                          size_t *attribute_of, size_t attributes_count, void *stream)) {                             \
        WB_NEEDS(name);                                                                                               \
        uint64_t start_ns = wb_now();                                                                                 \
        struct call call =                                                                                            \
            called(start_ns, real_##name(to, from, bytes, count, attributes, attribute_of, attributes_count, stream));\
        copied_batch(to, from, bytes, count, stream, call);                                                           \
        return call.status;                                                                                           \
    }
BATCH(cuMemcpyBatchAsync_v2)
BATCH(cuMemcpyBatchAsync_v2_ptsz)

#define FAILING_BATCH(name)                                                                                           \
    WB_DRIVER_HOOK(name, (wb_device_ptr *to, wb_device_ptr *from, size_t *bytes, size_t count, void *attributes,      \
                          size_t *attribute_of, size_t attributes_count, size_t *failed, void *stream)) {             \
        WB_NEEDS(name);                                                                                               \
        uint64_t start_ns = wb_now();                                                                                 \
        struct call call =                                                                                            \
            called(start_ns, real_##name(to, from, bytes, count, attributes, attribute_of, attributes_count, failed,  \
                                          stream));                                                                   \
        copied_batch(to, from, bytes, count, stream, call);                                                           \
        return call.status;                                                                                           \
    }
FAILING_BATCH(cuMemcpyBatchAsync)
FAILING_BATCH(cuMemcpyBatchAsync_ptsz)

#define FOUR_OF(name)                                                                             \
    WB_DRIVER_ENTRY(name##_v2), WB_DRIVER_ENTRY(name##_v2_ptds), WB_DRIVER_ENTRY(name##Async_v2), \
        WB_DRIVER_ENTRY(name##Async_v2_ptsz)
#define TWO_OF(name, suffix) WB_DRIVER_ENTRY(name), WB_DRIVER_ENTRY(name##suffix)
const struct wb_hook wb_copy_hooks[] = {
    FOUR_OF(cuMemcpyHtoD),
    FOUR_OF(cuMemcpyDtoH),
    FOUR_OF(cuMemcpyDtoD),
    TWO_OF(cuMemcpy, _ptds),
    TWO_OF(cuMemcpyAsync, _ptsz),
    TWO_OF(cuMemcpyPeer, _ptds),
    TWO_OF(cuMemcpyPeerAsync, _ptsz),
    TWO_OF(cuMemcpy2D_v2, _ptds),
    TWO_OF(cuMemcpy2DUnaligned_v2, _ptds),
    TWO_OF(cuMemcpy2DAsync_v2, _ptsz),
    TWO_OF(cuMemcpy3D_v2, _ptds),
    TWO_OF(cuMemcpy3DAsync_v2, _ptsz),
    TWO_OF(cuMemcpy3DPeer, _ptds),
    TWO_OF(cuMemcpy3DPeerAsync, _ptsz),
    TWO_OF(cuMemcpyBatchAsync, _ptsz),
    TWO_OF(cuMemcpyBatchAsync_v2, _ptsz),
};
const size_t wb_copy_hook_count = WB_COUNT(wb_copy_hooks);
