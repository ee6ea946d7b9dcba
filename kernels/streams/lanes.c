// Streams and events, made once and lent again and again.
#include "streams.h"

struct waited {
    void *stream;
    uint64_t number;
};

static int make_lane(const struct wb_device *device, struct lanes *lanes, struct lane **made) {
    void *stream = NULL;
    int status = device->make_stream(&stream, NON_BLOCKING);
    if (status) return status;
    *made = grown(NULL, sizeof **made);
    **made = (struct lane){.stream = stream};
    push(&lanes->all, *made);
    return SUCCESS;
}

static void offer(struct lanes *lanes, struct lane *lane) {
    if (lane->has_room) return;
    lane->has_room = true;
    push(&lanes->shared, lane);
}

static struct lane *share(struct lanes *lanes) {
    struct lane *lane = pop_first(&lanes->shared);
    if (lane) lane->has_room = false;
    return lane;
}

int take_lane(const struct wb_device *device, struct lanes *lanes, struct lane **taken) {
    struct lane *lane = pop_last(&lanes->idle);
    if (!lane && lanes->all.count < lanes->limit) {
        int status = make_lane(device, lanes, &lane);
        if (status) return status;
    }
    if (!lane) lane = share(lanes);
    *taken = lane;
    if (lane && ++lane->lent < lanes->depth) offer(lanes, lane);
    return SUCCESS;
}

void give_back_lane(struct lanes *lanes, struct lane *lane) {
    if (--lane->lent) {
        offer(lanes, lane);
        return;
    }
    lane->waited_count = 0; // nothing is on it any more, so that it need not know what came after what
    push(&lanes->idle, lane);
}

int prepare_lanes(const struct wb_device *device, struct lanes *lanes, uint64_t transfers) {
    while (lanes->all.count < lanes->limit && lanes->all.count < transfers) {
        struct lane *made;
        int status = make_lane(device, lanes, &made);
        if (status) return status;
        push(&lanes->idle, made);
    }
    return SUCCESS;
}

void destroy_lanes(const struct wb_device *device, struct lanes *lanes) {
    struct lane *lane;
    while ((lane = pop_last(&lanes->all))) {
        device->destroy_stream(lane->stream); // where one can not be, the next one may
        empty(&lane->transfers);
        free(lane->waited);
        free(lane);
    }
    empty(&lanes->all), empty(&lanes->idle), empty(&lanes->shared);
}

bool must_wait(struct lane *lane, struct reference one) {
    if (is_over(one) || one.work->stream == lane->stream) return false;
    size_t at = 0;
    while (at < lane->waited_count && lane->waited[at].stream != one.work->stream) at++;
    if (at < lane->waited_count && lane->waited[at].number >= one.number) return false;
    if (at == lane->waited_room) {
        lane->waited_room = at ? 2 * at : 4;
        lane->waited = grown(lane->waited, lane->waited_room * sizeof *lane->waited);
    }
    lane->waited_count += at == lane->waited_count;
    lane->waited[at] = (struct waited){one.work->stream, one.number};
    return true;
}

static int make_event(const struct wb_device *device, struct events *events, void **made) {
    int status = device->make_event(made, WITH_TIME);
    if (!status) push(&events->all, *made);
    return status;
}

int take_event(const struct wb_device *device, struct events *events, void **taken) {
    *taken = pop_last(&events->free);
    return *taken ? SUCCESS : make_event(device, events, taken);
}

void give_back_event(struct events *events, void *event) {
    if (event) push(&events->free, event);
}

int prepare_events(const struct wb_device *device, struct events *events, uint64_t count) {
    while (events->all.count < count) {
        void *made;
        int status = make_event(device, events, &made);
        if (status) return status;
        push(&events->free, made);
    }
    return SUCCESS;
}

void destroy_events(const struct wb_device *device, struct events *events) {
    void *event;
    while ((event = pop_last(&events->all))) device->destroy_event(event);
    empty(&events->all), empty(&events->free);
}
