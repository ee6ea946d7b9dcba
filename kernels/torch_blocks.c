/* torch's blocks, at the three functions of libc10 that each of them passes through. They are exported and called
 * by name, across libraries and within libc10, so they can be stood in for. A block lies inside memory that the host's
 * or the driver's events tell of. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <string.h>

#include "recorder.h"

struct device { /* c10::Device: two bytes, passed in a register */
    int8_t type, index;
};
enum { CUDA = 1 };

#define ALLOC_CPU "_ZN3c109alloc_cpuEm"
#define FREE_CPU "_ZN3c108free_cpuEPv"
#define REPORT "_ZN3c1027reportMemoryUsageToProfilerEPvlmmNS_6DeviceE"

static void *(*real_alloc)(size_t);
static void (*real_free)(void *);
static void (*real_report)(void *, int64_t, size_t, size_t, struct device);

uint32_t wb_torch_name(void) {
    static _Atomic uint32_t known;
    uint32_t id = atomic_load_explicit(&known, memory_order_relaxed);
    if (WB_UNLIKELY(!id)) atomic_store(&known, id = wb_name("torch"));
    return id;
}

static struct wb_record block(uint8_t kind, int16_t device, const void *address, size_t bytes) {
    return (struct wb_record){.kind = kind, .layer = WB_ALLOCATOR, .tier = WB_GPU, .device = device,
                              .address = (uintptr_t)address, .bytes = bytes, .asked = bytes, .owner = wb_torch_name()};
}

static bool recording(void) { return wb_limit() != SIZE_MAX && atomic_load(&wb_settings.torch); }

/* Where libc10 is part of a larger library, that one is among the caller's. */
static void find(const void *caller) {
    struct dl_find_object object;
    wb_find_torch();
    if (real_alloc && real_free && real_report) return;
    if (_dl_find_object((void *)caller, &object)) return;
    for (size_t i = 0; i < wb_torch_hook_count; i++)
        *wb_torch_hooks[i].real = wb_dlsym_beyond(object.dlfo_link_map, wb_torch_hooks[i].symbol);
}

/* On the CPU a block of torch's is a request to the host's allocator, so it is one event, of the host's hooks below these,
 * which take torch for its owner. Where libc10 brings an allocator of its own (mimalloc), they see what that one maps. */
static void *wb_alloc_cpu(size_t bytes) {
    if (WB_UNLIKELY(!real_alloc)) find(__builtin_return_address(0));
    wb_thread.torch = atomic_load_explicit(&wb_settings.torch, memory_order_relaxed);
    void *memory = real_alloc(bytes);
    wb_thread.torch = false;
    return memory;
}

static void wb_free_cpu(void *memory) {
    if (WB_UNLIKELY(!real_free)) find(__builtin_return_address(0));
    wb_thread.torch = atomic_load_explicit(&wb_settings.torch, memory_order_relaxed);
    real_free(memory);
    wb_thread.torch = false;
}

WB_PUBLIC void wb_torch_from(size_t minimum) {
    wb_settings.torch_minimum = minimum;
    wb_choose_least();
}

WB_PUBLIC void wb_torch_detail(uint64_t address, uint64_t asked, uint64_t stream) {
    wb_thread.detail_address = address;
    wb_thread.detail_asked = asked;
    wb_thread.detail_stream = stream;
}

static void add_detail(struct wb_record *event) {
    if (wb_thread.detail_address != event->address) return;
    if (event->kind == WB_ALLOC) event->asked = wb_thread.detail_asked;
    event->stream = wb_thread.detail_stream;
    wb_thread.detail_address = 0;
}

/* Called for each block that the CUDA allocator hands out, and, with its size below zero, takes back. */
static void wb_report(void *memory, int64_t bytes, size_t allocated, size_t reserved, struct device device) {
    if (memory && bytes && recording() && device.type == CUDA) {
        bool taken = bytes > 0;
        size_t size = (size_t)(taken ? bytes : -bytes);
        struct wb_record event = block(taken ? WB_ALLOC : WB_FREE, wb_device_number(device.index), memory, size);
        add_detail(&event);
        wb_emit(&event, taken && wb_host_stacks());
    }
    if (WB_UNLIKELY(!real_report)) find(__builtin_return_address(0));
    real_report(memory, bytes, allocated, reserved, device);
}

const struct wb_hook wb_torch_hooks[] = {
    {ALLOC_CPU, (void *)wb_alloc_cpu, (void **)&real_alloc},
    {FREE_CPU, (void *)wb_free_cpu, (void **)&real_free},
    {REPORT, (void *)wb_report, (void **)&real_report},
};
const size_t wb_torch_hook_count = WB_COUNT(wb_torch_hooks);

WB_TAKE_PLACE_OF(_ZN3c109alloc_cpuEm, wb_alloc_cpu);
WB_TAKE_PLACE_OF(_ZN3c108free_cpuEPv, wb_free_cpu);
WB_TAKE_PLACE_OF(_ZN3c1027reportMemoryUsageToProfilerEPvlmmNS_6DeviceE, wb_report);

void wb_find_torch(void) {
    void *library = dlopen("libc10.so", RTLD_LAZY | RTLD_NOLOAD);
    if (!library) return;
    for (size_t i = 0; i < wb_torch_hook_count; i++) *wb_torch_hooks[i].real = wb_dlsym_beyond(library, wb_torch_hooks[i].symbol);
}
