// The device's time on the one clock of a run: how long after a mark an event happened, and when the mark did.
#include <time.h>

#include "streams.h"

static const uint64_t CALIBRATED_FOR_NS = 2000000000; // the time between events is a float of ms: 0.2 us at 2 s

uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

// Marks a moment, which lies between two of the host's.
static int mark(const struct wb_device *device, const struct clock *clock, void *event, uint64_t *took, uint64_t *at) {
    uint64_t start = now();
    int status = device->record(event, clock->stream);
    if (!status) status = device->synchronise(clock->stream);
    *took = now() - start;
    *at = start + *took / 2;
    return status;
}

// From the try that leaves least room for error.
static int read_clocks(const struct wb_device *device, struct clock *clock) {
    uint64_t least = UINT64_MAX, took, at;
    for (int i = 0; i < TRIES; i++) {
        int status = mark(device, clock, clock->marks[i], &took, &at);
        if (status) return status;
        if (took >= least) continue;
        least = took, clock->mark = clock->marks[i], clock->mark_ns = at;
    }
    return SUCCESS;
}

int make_clock(const struct wb_device *device, struct clock *clock) {
    int status = device->make_stream(&clock->stream, NON_BLOCKING);
    for (int i = 0; i < TRIES && !status; i++) status = device->make_event(&clock->marks[i], WITH_TIME);
    return status ? status : read_clocks(device, clock);
}

int calibrate(const struct wb_device *device, struct clock *clock) {
    return now() - clock->mark_ns > CALIBRATED_FOR_NS ? read_clocks(device, clock) : SUCCESS;
}

int time_of(const struct wb_device *device, const struct clock *clock, void *event, uint64_t *ns) {
    float ms = 0;
    int status = device->elapsed_ms(&ms, clock->mark, event);
    *ns = clock->mark_ns + (uint64_t)(int64_t)((double)ms * 1e6);
    return status;
}

void destroy_clock(const struct wb_device *device, struct clock *clock) {
    for (int i = 0; i < TRIES; i++)
        if (clock->marks[i]) device->destroy_event(clock->marks[i]);
    if (clock->stream) device->destroy_stream(clock->stream);
}
