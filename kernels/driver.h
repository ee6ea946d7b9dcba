/* What the files of the driver's side share: the CUDA driver API as far as it is hooked. Nothing of CUDA is needed to
 * build it: handles are pointers, statuses numbers, and the functions are found in libcuda.so.1 once that is loaded. */
#ifndef WORKBENCH_DRIVER_H
#define WORKBENCH_DRIVER_H

#include "recorder.h"

#pragma GCC visibility push(hidden)

typedef int wb_status;          /* CUresult */
typedef uint64_t wb_device_ptr; /* CUdeviceptr */
enum { WB_SUCCESS = 0, WB_OUT_OF_MEMORY = 2, WB_NO_DRIVER = 100 /* CUDA_ERROR_NO_DEVICE */ };

/* A hook of the function `name`: its place is taken by `wb_name`, which calls the driver's own as `real_name`. */
#define WB_DRIVER_HOOK(name, parameters)                                                                   \
    static wb_status(*real_##name) parameters;                                                             \
    static wb_status wb_##name parameters;                                                                 \
    WB_TAKE_PLACE_OF(name, wb_##name);                                                                     \
    static wb_status wb_##name parameters
#define WB_DRIVER_ENTRY(name) {#name, (void *)wb_##name, (void **)&real_##name}

/* First in every hook: where libcuda.so.1 is linked directly, no look-up has found the functions yet. */
#define WB_NEEDS(name)                                               \
    if (WB_UNLIKELY(!real_##name) && (!wb_find_driver() || !real_##name)) return WB_NO_DRIVER

extern const struct wb_hook wb_lookup_hooks[], wb_memory_hooks[], wb_virtual_hooks[], wb_measured_hooks[],
    wb_launch_hooks[], wb_copy_hooks[];
extern const size_t wb_lookup_hook_count, wb_memory_hook_count, wb_virtual_hook_count, wb_measured_hook_count,
    wb_launch_hook_count, wb_copy_hook_count;

/* Find the driver's functions, if it is loaded. False: it is not. */
bool wb_find_driver(void);

/* Functions that are called and not hooked; NULL where the driver has none. */
struct wb_driver {
    wb_status (*device_count)(int *count);
    wb_status (*device_uuid)(unsigned char uuid[16], int device);
    wb_status (*current_device)(int *device);
    wb_status (*is_capturing)(void *stream, int *status);
    wb_status (*pointer_attribute)(void *value, int attribute, wb_device_ptr pointer);
    wb_status (*memory_property)(void *property, uint64_t handle);
};
extern struct wb_driver wb_driver;

/* The device of the calling thread's context; that of CUDA's 0 where it has none. */
int16_t wb_current_device(void);

/* Whether what is asked for on `stream` becomes part of a graph instead of being done. */
bool wb_is_capturing(void *stream);

/* Whether driver events are recorded now. */
bool wb_records_driver(void);

/* An event of the driver's layer, for the two below. */
struct wb_record wb_driver_event(uint8_t tier, uint64_t address, size_t bytes);
void wb_driver_emit(struct wb_record event);
/* Memory was handed out, or there was none. */
void wb_driver_took(struct wb_record event, wb_status status);

/* Memory is about to be given back, and was. Address 0: nothing is said of it. */
struct wb_giving {
    uint64_t address, number;
};
struct wb_giving wb_driver_gives(uint64_t address);
void wb_driver_gave(struct wb_giving giving, wb_status status);
void wb_driver_emit_free(uint64_t address); /* no more than the record */

/* Record what has gone with its context as given back. */
void wb_record_gone(void);

/* Record virtual memory that has no mapping yet: a reading counts it. */
void wb_record_unmapped(void);

/* Read a device's used memory: what has changed since the last reading belongs to `owner`, or to nobody (NULL).
 * `since`: when the call began that changed it. */
enum { WB_CURRENT_DEVICE = -1, WB_ALL_DEVICES = -2 };
void wb_measure(const char *owner, int device, uint64_t since);

/* Read it before such a call: what has changed until now is nobody's. Returns when that is. */
uint64_t wb_measure_before(void);

/* Read it after memory of `owner`'s was given back that another process may use too, or may have left to this one. */
void wb_measure_outlived(uint32_t owner, int device, size_t bytes);

/* Things met before, by address. Full: everything counts as met. */
struct wb_met {
    _Atomic uintptr_t things[1 << 14];
};
bool wb_first_met(struct wb_met *met, const void *thing);
void wb_forget(struct wb_met *met, const void *thing);

#pragma GCC visibility pop
#endif
