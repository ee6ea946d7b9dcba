// The device's time on the one clock of a run: how long after a mark an event happened, and when the mark did.
//
// The two clocks drift apart, by some us a second. So moments are marked again and again, and the first mark and the
// last one tell how fast the device's clock is.
#include <time.h>

#include "streams.h"

static const uint64_t MARKED_FOR_NS = 1000000000; // then another mark: the time between events is a float of ms
static const uint64_t TRIED_FOR_NS = 10000000;    // where the device did not get to a mark
static const uint64_t AT_ONCE_NS = 30000;         // it gets to one within so much, or is busy
enum { TRIES = 5 };

uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

// Marks a moment, which lies between two of the host's: from the try that leaves least room for error.
static int mark_first(const struct wb_device *device, struct clock *clock) {
    struct mark *first = &clock->marks[FIRST], *tried = &clock->marks[NEXT];
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < TRIES; i++) {
        uint64_t start = now();
        int status = device->record(tried->event, clock->stream);
        if (!status) status = device->synchronise(clock->stream);
        if (status) return status;
        uint64_t took = now() - start;
        if (took >= least) continue;
        struct mark better = {tried->event, start + took / 2};
        *tried = *first, *first = better, least = took;
    }
    return SUCCESS;
}

int make_clock(const struct wb_device *device, struct clock *clock) {
    *clock = (struct clock){.last = &clock->marks[FIRST], .next = &clock->marks[NEXT], .ns_a_ms = 1e6};
    int status = device->make_stream(&clock->stream, NON_BLOCKING);
    for (int i = 0; i < MARKS && !status; i++) status = device->make_event(&clock->marks[i].event, WITH_TIME);
    return status ? status : mark_first(device, clock);
}

static int take_mark(const struct wb_device *device, struct clock *clock, uint64_t ns) {
    struct mark *first = &clock->marks[FIRST], *last = clock->next;
    float ms = 0;
    int status = device->elapsed_ms(&ms, first->event, last->event);
    if (status) return status;
    last->ns = ns;
    clock->ns_a_ms = (double)(ns - first->ns) / (double)ms;
    clock->next = clock->last == first ? &clock->marks[OTHER] : clock->last;
    clock->last = last;
    return SUCCESS;
}

int keep_time(const struct wb_device *device, struct clock *clock) {
    uint64_t start = now();
    if (start - clock->last->ns < MARKED_FOR_NS || start - clock->tried_ns < TRIED_FOR_NS) return SUCCESS;
    clock->tried_ns = start;
    int status = device->record(clock->next->event, clock->stream);
    while (!status && now() - start < AT_ONCE_NS) {
        status = device->query(clock->next->event);
        if (!status) return take_mark(device, clock, start + (now() - start) / 2);
        if (status == NOT_READY) status = SUCCESS;
    }
    return status;
}

int time_of(const struct wb_device *device, const struct clock *clock, void *event, uint64_t *ns) {
    float ms = 0;
    int status = device->elapsed_ms(&ms, clock->last->event, event);
    *ns = clock->last->ns + (uint64_t)(int64_t)((double)ms * clock->ns_a_ms);
    return status;
}

void destroy_clock(const struct wb_device *device, struct clock *clock) {
    for (int i = 0; i < MARKS; i++)
        if (clock->marks[i].event) device->destroy_event(clock->marks[i].event);
    if (!clock->stream) return;
    device->synchronise(clock->stream); // a mark may be under way
    device->destroy_stream(clock->stream);
}
