// What streams need of a device: functions of the CUDA driver, or a test's own. Each gives a CUresult.
#ifndef WORKBENCH_STREAMS_DEVICE_H
#define WORKBENCH_STREAMS_DEVICE_H

#include <stddef.h>
#include <stdint.h>

#define WB_PUBLIC __attribute__((visibility("default"))) // nothing else of this library has a name outside of it

enum { SUCCESS = 0, OUT_OF_MEMORY = 2, SHARED_OBJECT_INIT_FAILED = 303, NOT_FOUND = 500, NOT_READY = 600 }; // of CUresult
enum { OVERLAPS = 1 << 16 }; // and one of ours: a block does others
enum { NON_BLOCKING = 1 }; // a stream: torch computes on the default one, which orders itself with blocking ones
enum { WITH_TIME = 0 };    // an event

struct wb_device {
    int (*make_stream)(void **made, unsigned flags);
    int (*destroy_stream)(void *stream);
    int (*synchronise)(void *stream);
    int (*wait)(void *stream, void *event, unsigned flags);
    int (*make_event)(void **made, unsigned flags);
    int (*destroy_event)(void *event);
    int (*record)(void *event, void *stream);
    int (*query)(void *event);
    int (*elapsed_ms)(float *elapsed, void *from, void *to);
    int (*copy_to_device)(uint64_t to, const void *from, size_t bytes, void *stream);
    int (*copy_to_host)(void *to, uint64_t from, size_t bytes, void *stream);
    int (*push_context)(void *context);
    int (*pop_context)(void **popped);
};

enum { ITS_FUNCTIONS = sizeof(struct wb_device) / sizeof(void *) };

// The driver's, by the name of its library. NULL: `status` says what cuGetProcAddress would.
WB_PUBLIC const struct wb_device *wb_device_open(const char *driver, int *status);

#endif
