/* First launches. The driver loads a kernel's code when the kernel is first launched, and a graph's when the graph is;
 * so each is met once, and later launches cost a look into a table. */
#define _GNU_SOURCE
#include "driver.h"

#define GONE ((uintptr_t)1) /* in the place of a thing that was forgotten */
#define FARTHEST 16         /* places that are looked at for a thing */

static size_t home_of(const void *thing) { return (uintptr_t)thing * 0x9e3779b97f4a7c15ull >> 50; }

/* A place of one that is gone is used again only once it is known that the thing lies behind none of them. */
bool wb_first_met(struct wb_met *met, const void *thing) {
    size_t home = home_of(thing);
    _Atomic uintptr_t *room = NULL;
    for (size_t i = 0; i < FARTHEST; i++) {
        _Atomic uintptr_t *place = &met->things[(home + i) % WB_COUNT(met->things)];
        uintptr_t there = atomic_load_explicit(place, memory_order_relaxed);
        if (WB_LIKELY(there == (uintptr_t)thing)) return false;
        if (there <= GONE && !room) room = place;
        if (!there) break;
    }
    if (!room) return false;
    uintptr_t there = atomic_load(room);
    return (there <= GONE && atomic_compare_exchange_strong(room, &there, (uintptr_t)thing)) || wb_first_met(met, thing);
}

void wb_forget(struct wb_met *met, const void *thing) {
    size_t home = home_of(thing);
    for (size_t i = 0; i < FARTHEST; i++) {
        uintptr_t there = (uintptr_t)thing;
        if (atomic_compare_exchange_strong(&met->things[(home + i) % WB_COUNT(met->things)], &there, GONE)) return;
    }
}

static struct wb_met kernels, graphs;

/* --- kernels -------------------------------------------------------------------------------------------------------- */

/* When a kernel's first launch began, 0: it is not the first. */
static inline uint64_t first_launch(const void *kernel) {
    return WB_UNLIKELY(wb_first_met(&kernels, kernel)) ? wb_now() : 0;
}

static inline void launched(uint64_t first) {
    if (WB_UNLIKELY(first)) wb_measure("modules", WB_CURRENT_DEVICE, first);
}

#define LAUNCH(suffix)                                                                                               \
    WB_DRIVER_HOOK(cuLaunchKernel##suffix,                                                                           \
                   (void *kernel, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,               \
                    unsigned block_y, unsigned block_z, unsigned shared, void *stream, void **arguments, void **extra)) { \
        WB_NEEDS(cuLaunchKernel##suffix);                                                                            \
        uint64_t first = first_launch(kernel);                                                                       \
        wb_status status = real_cuLaunchKernel##suffix(kernel, grid_x, grid_y, grid_z, block_x, block_y, block_z,    \
                                                       shared, stream, arguments, extra);                            \
        launched(first);                                                                                             \
        return status;                                                                                               \
    }                                                                                                                \
    WB_DRIVER_HOOK(cuLaunchCooperativeKernel##suffix,                                                                \
                   (void *kernel, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,               \
                    unsigned block_y, unsigned block_z, unsigned shared, void *stream, void **arguments)) {          \
        WB_NEEDS(cuLaunchCooperativeKernel##suffix);                                                                 \
        uint64_t first = first_launch(kernel);                                                                       \
        wb_status status = real_cuLaunchCooperativeKernel##suffix(kernel, grid_x, grid_y, grid_z, block_x, block_y,  \
                                                                  block_z, shared, stream, arguments);               \
        launched(first);                                                                                             \
        return status;                                                                                               \
    }                                                                                                                \
    WB_DRIVER_HOOK(cuLaunchKernelEx##suffix, (const void *how, void *kernel, void **arguments, void **extra)) {      \
        WB_NEEDS(cuLaunchKernelEx##suffix);                                                                          \
        uint64_t first = first_launch(kernel);                                                                       \
        wb_status status = real_cuLaunchKernelEx##suffix(how, kernel, arguments, extra);                             \
        launched(first);                                                                                             \
        return status;                                                                                               \
    }
LAUNCH()
LAUNCH(_ptsz)

/* --- graphs --------------------------------------------------------------------------------------------------------- */

/* What was taken while the graph was captured is not the graph's: read before, too. */
#define INSTANTIATE(name, parameters, ...)                   \
    WB_DRIVER_HOOK(name, parameters) {                       \
        WB_NEEDS(name);                                      \
        uint64_t since = wb_measure_before();                \
        wb_status status = real_##name(__VA_ARGS__);         \
        wb_measure("graphs", WB_CURRENT_DEVICE, since);      \
        return status;                                       \
    }
INSTANTIATE(cuGraphInstantiate, (void **made, void *graph, void **node, char *log, size_t room), made, graph, node, log,
            room)
INSTANTIATE(cuGraphInstantiate_v2, (void **made, void *graph, void **node, char *log, size_t room), made, graph, node,
            log, room)
INSTANTIATE(cuGraphInstantiateWithFlags, (void **made, void *graph, unsigned long long flags), made, graph, flags)
INSTANTIATE(cuGraphInstantiateWithParams, (void **made, void *graph, void *options), made, graph, options)
INSTANTIATE(cuGraphInstantiateWithParams_ptsz, (void **made, void *graph, void *options), made, graph, options)

#define REPLAY(suffix)                                                                  \
    WB_DRIVER_HOOK(cuGraphLaunch##suffix, (void *graph, void *stream)) {                \
        WB_NEEDS(cuGraphLaunch##suffix);                                                \
        uint64_t first = WB_UNLIKELY(wb_first_met(&graphs, graph)) ? wb_measure_before() : 0; \
        wb_status status = real_cuGraphLaunch##suffix(graph, stream);                   \
        if (WB_UNLIKELY(first)) wb_measure("graphs", WB_CURRENT_DEVICE, first);         \
        return status;                                                                  \
    }                                                                                   \
    WB_DRIVER_HOOK(cuGraphUpload##suffix, (void *graph, void *stream)) {                \
        WB_NEEDS(cuGraphUpload##suffix);                                                \
        uint64_t since = wb_measure_before();                                           \
        wb_status status = real_cuGraphUpload##suffix(graph, stream);                   \
        wb_measure("graphs", WB_CURRENT_DEVICE, since);                                 \
        return status;                                                                  \
    }
REPLAY()
REPLAY(_ptsz)

WB_DRIVER_HOOK(cuGraphExecDestroy, (void *graph)) {
    WB_NEEDS(cuGraphExecDestroy);
    wb_forget(&graphs, graph);
    uint64_t since = wb_now();
    wb_status status = real_cuGraphExecDestroy(graph);
    wb_measure("graphs", WB_CURRENT_DEVICE, since);
    return status;
}

const struct wb_hook wb_launch_hooks[] = {
    WB_DRIVER_ENTRY(cuLaunchKernel),
    WB_DRIVER_ENTRY(cuLaunchKernel_ptsz),
    WB_DRIVER_ENTRY(cuLaunchCooperativeKernel),
    WB_DRIVER_ENTRY(cuLaunchCooperativeKernel_ptsz),
    WB_DRIVER_ENTRY(cuLaunchKernelEx),
    WB_DRIVER_ENTRY(cuLaunchKernelEx_ptsz),
    WB_DRIVER_ENTRY(cuGraphInstantiate),
    WB_DRIVER_ENTRY(cuGraphInstantiate_v2),
    WB_DRIVER_ENTRY(cuGraphInstantiateWithFlags),
    WB_DRIVER_ENTRY(cuGraphInstantiateWithParams),
    WB_DRIVER_ENTRY(cuGraphInstantiateWithParams_ptsz),
    WB_DRIVER_ENTRY(cuGraphLaunch),
    WB_DRIVER_ENTRY(cuGraphLaunch_ptsz),
    WB_DRIVER_ENTRY(cuGraphUpload),
    WB_DRIVER_ENTRY(cuGraphUpload_ptsz),
    WB_DRIVER_ENTRY(cuGraphExecDestroy),
};
const size_t wb_launch_hook_count = WB_COUNT(wb_launch_hooks);
