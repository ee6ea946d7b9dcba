/* What the files of the driver's side share: CUPTI and NVML, by address. Neither is needed at build time. */
#ifndef WORKBENCH_DRIVER_H
#define WORKBENCH_DRIVER_H

#include "recorder.h"

#define WB_MOST_DEVICES 16

struct wb_memory_info { /* nvmlMemory_t */
    uint64_t total, free, used;
};

struct wb_driver_api {
    int (*next_record)(uint8_t *buffer, size_t bytes, void **record); /* cuptiActivityGetNextRecord */
    int (*flush_all)(uint32_t flag);                                  /* cuptiActivityFlushAll */
    int (*device_of)(void *context, uint32_t *device);                /* cuptiGetDeviceId */
    int (*enable)(uint32_t on, void *subscriber, int domain, uint32_t id); /* cuptiEnableCallback */
    int (*memory_of)(void *device, struct wb_memory_info *out);          /* nvmlDeviceGetMemoryInfo */
    uint32_t device_count;
    void *devices[WB_MOST_DEVICES]; /* NVML's handles, by CUDA's ordinals */
};

#pragma GCC visibility push(hidden)
extern struct wb_driver_api wb_driver;

void wb_measure_given_back(void); /* read devices again whose memory was about to be given back */
#pragma GCC visibility pop
#endif
