// What becomes of a transfer: it is held until there is room and all that it waits for is on the device, handed on to a
// lane, and taken in when it is over.
#include "streams.h"

enum { UNFINISHED = 32 }; // lanes that are looked at in vain before a look leaves the others to the next one

static struct span source_of(const struct transfer *transfer) { return (struct span){&transfer->source, 1}; }
static struct span target_of(const struct transfer *transfer) { return (struct span){&transfer->target, 1}; }

static struct transfer *place_for(struct wb_streams *streams, struct asked asked) {
    struct transfer *transfer = pop_last(&streams->spare_transfers);
    struct references waits = transfer ? transfer->waits : (struct references){0};
    if (!transfer) transfer = grown(NULL, sizeof *transfer);
    *transfer = (struct transfer){
        .work.number = asked.number, .target = {asked.target, asked.bytes}, .source = {asked.source, asked.bytes},
        .way = asked.way, .submitted_ns = asked.submitted_ns, .waits = waits,
    };
    transfer->waits.count = 0;
    return transfer;
}

// A transfer is over: tells of it, and has its place used again.
static void finish(struct wb_streams *streams, struct transfer *transfer, uint64_t began_ns, uint64_t ended_ns, int status) {
    transfer->work.is_over = true;
    struct done *done = &streams->done;
    if (done->count == done->room) {
        done->room = done->room ? 2 * done->room : 256;
        done->of = grown(done->of, done->room * sizeof *done->of);
    }
    done->of[done->count++] = (struct wb_done){
        .number = transfer->work.number,
        .stream = (uintptr_t)transfer->work.stream,
        .submitted_ns = transfer->submitted_ns,
        .handed_ns = transfer->handed_ns,
        .call_ns = transfer->call_ns,
        .began_ns = began_ns,
        .ended_ns = ended_ns,
        .status = (uint64_t)status,
    };
    streams->shared->under_way--;
    push(&streams->spare_transfers, transfer);
}

// --- to the device

static void note(struct wb_streams *streams, int status) {
    if (status) streams->shared->failed = (uint64_t)status;
}

static int copy(const struct wb_device *device, const struct transfer *one, void *stream) {
    uint64_t target = one->target.address, source = one->source.address, bytes = one->source.bytes;
    if (one->way == LOAD) return device->copy_to_device(target, (const void *)source, bytes, stream);
    return device->copy_to_host((void *)target, source, bytes, stream);
}

static int enqueue(struct wb_streams *streams, struct transfer *one, struct lane *lane) {
    const struct wb_device *device = streams->device;
    bool begins = !lane->transfers.count;
    int status = take_event(device, &streams->events, &one->work.end);
    one->handed_ns = now();
    for (size_t i = 0; i < one->waits.count && !status; i++) {
        if (!must_wait(lane, one->waits.of[i])) continue;
        status = device->wait(lane->stream, one->waits.of[i].work->end, 0);
        begins = true;
    }
    if (begins && !status) status = take_event(device, &streams->events, &one->begin);
    if (begins && !status) status = device->record(one->begin, lane->stream);
    if (!status) status = copy(device, one, lane->stream);
    if (!status) status = device->record(one->work.end, lane->stream);
    one->call_ns = now() - one->handed_ns;
    return status;
}

// It failed in the middle: nothing of it may be under way any more, nor what others took it to wait for, and what it
// borrowed comes back.
static void undo(struct wb_streams *streams, struct transfer *one, struct lane *lane, int status) {
    streams->device->synchronise(lane->stream);
    for (size_t i = 0; i < one->waits.count; i++)
        if (!is_over(one->waits.of[i])) streams->device->synchronise(one->waits.of[i].work->stream);
    give_back_event(&streams->events, one->begin);
    give_back_event(&streams->events, one->work.end);
    give_back_lane(&streams->ways[one->way].lanes, lane);
    finish(streams, one, 0, 0, status);
}

static bool waits_for_held(const struct references *waits) {
    for (size_t i = 0; i < waits->count; i++)
        if (is_held(waits->of[i])) return true;
    return false;
}

// Gives whether a transfer need not be held: it is on the device, or it failed.
static bool start(struct wb_streams *streams, struct transfer *one) {
    struct way *way = &streams->ways[one->way];
    struct lane *lane = NULL;
    if (waits_for_held(&one->waits)) return false;
    note(streams, take_lane(streams->device, &way->lanes, &lane)); // where it fails, it is not this transfer that does
    if (!lane) return false;
    int status = enqueue(streams, one, lane);
    if (status) {
        undo(streams, one, lane, status);
        return true;
    }
    one->work.stream = lane->stream, one->work.is_on_device = true, one->waits.count = 0;
    if (!lane->transfers.count) push(&way->busy, lane);
    push(&lane->transfers, one);
    streams->shared->on_device++;
    return true;
}

static void hand_on_held(struct wb_streams *streams, struct way *way, uint64_t most) {
    for (; most && way->held.count && start(streams, first_of(&way->held)); most--) pop_first(&way->held);
}

// --- from the device

static uint64_t latest(uint64_t one, uint64_t other) { return one > other ? one : other; }

// Its times are in order, also where the device's clock is a little off.
static void end(struct wb_streams *streams, struct way *way, struct lane *lane) {
    const struct wb_device *device = streams->device;
    struct transfer *one = pop_first(&lane->transfers);
    uint64_t began = lane->ended_ns, ended = 0;
    int status = one->begin ? time_of(device, &streams->clock, one->begin, &began) : SUCCESS;
    if (!status) status = time_of(device, &streams->clock, one->work.end, &ended);
    began = latest(began, one->handed_ns), lane->ended_ns = ended = latest(ended, began);
    give_back_event(&streams->events, one->begin);
    give_back_event(&streams->events, one->work.end);
    give_back_lane(&way->lanes, lane);
    if (!lane->transfers.count) pop_first(&way->busy);
    streams->shared->on_device--;
    finish(streams, one, began, ended, status);
}

// Takes in up to `most` that are over; looks in vain at no more than `unfinished` lanes.
static int take_in(struct wb_streams *streams, struct way *way, uint64_t most, uint64_t unfinished) {
    if (unfinished > way->busy.count) unfinished = way->busy.count;
    while (way->busy.count && most && unfinished) {
        struct lane *lane = first_of(&way->busy);
        const struct transfer *one = first_of(&lane->transfers);
        int status = streams->device->query(one->work.end);
        if (status && status != NOT_READY) return status;
        if (status) {
            push(&way->busy, pop_first(&way->busy));
            unfinished--;
        } else {
            end(streams, way, lane);
            most--;
        }
    }
    return SUCCESS;
}

static int take_in_steps(struct wb_streams *streams) {
    struct work *step;
    while ((step = first_of(&streams->steps))) {
        int status = streams->device->query(step->end);
        if (status) return status == NOT_READY ? SUCCESS : status;
        step->is_over = true;
        give_back_event(&streams->events, step->end);
        push(&streams->spare_steps, pop_first(&streams->steps));
    }
    return SUCCESS;
}

// All of both that is known to be over, of each way up to `most`.
static void take_in_all(struct wb_streams *streams, uint64_t most, uint64_t unfinished) {
    note(streams, take_in_steps(streams));
    for (int way = 0; way < WAYS; way++) note(streams, take_in(streams, &streams->ways[way], most, unfinished));
}

static void hand_on_all(struct wb_streams *streams, uint64_t most) {
    for (int way = 0; way < WAYS; way++) hand_on_held(streams, &streams->ways[way], most);
    note(streams, keep_time(streams->device, &streams->clock));
}

void look(struct wb_streams *streams, uint64_t most) {
    take_in_all(streams, most, UNFINISHED);
    hand_on_all(streams, most);
}

void advance(struct wb_streams *streams) {
    for (int way = 0; way < WAYS; way++) {
        const struct lane *lane = first_of(&streams->ways[way].busy);
        if (lane) note(streams, streams->device->synchronise(lane->stream));
    }
    take_in_all(streams, UINT64_MAX, UINT64_MAX);
    hand_on_all(streams, UINT64_MAX);
}

// --- from who drives the model

// Where blocks overlap others, these may be at rest, and nobody has looked.
static int find_before(struct wb_streams *streams, struct span reads, struct span writes, struct references *waits) {
    if (!streams->given.is_ordered || before(&streams->blocks, reads, writes, waits)) return SUCCESS;
    take_in_all(streams, UINT64_MAX, UINT64_MAX);
    return before(&streams->blocks, reads, writes, waits) ? SUCCESS : OVERLAPS;
}

void accept(struct wb_streams *streams, struct asked asked) {
    struct transfer *one = place_for(streams, asked);
    struct queue *held = &streams->ways[one->way].held;
    streams->shared->under_way++;
    int status = streams->lost;
    if (!status) status = find_before(streams, source_of(one), target_of(one), &one->waits);
    if (status) {
        finish(streams, one, 0, 0, status);
        return;
    }
    if (held->count || !start(streams, one)) push(held, one);
    if (streams->given.is_ordered) add(&streams->blocks, &one->work, source_of(one), target_of(one));
}

static int wait_for_all(struct wb_streams *streams, struct references *waits) {
    int status = SUCCESS;
    keep_last_of_each_stream(waits);
    for (size_t i = 0; i < waits->count && !status; i++)
        status = streams->device->wait(streams->given.compute, waits->of[i].work->end, 0);
    return status;
}

// Its blocks are kept here: a Ctrl-C may leave nobody who would name them in the end.
static void open_step(struct open_step *step, struct span reads, struct span writes) {
    size_t count = reads.count + writes.count;
    if (count > step->room) step->of = grown(step->of, (step->room = count) * sizeof *step->of);
    if (reads.count) memcpy(step->of, reads.of, reads.count * sizeof *step->of);
    if (writes.count) memcpy(step->of + reads.count, writes.of, writes.count * sizeof *step->of);
    step->reads = reads.count, step->writes = writes.count, step->is_open = true;
}

// Gives NOT_READY where the compute waits for what is held: `advance`, and try again.
int begin_step(struct wb_streams *streams, struct span reads, struct span writes) {
    if (streams->lost) return streams->lost;
    int status = find_before(streams, reads, writes, &streams->waits);
    if (status) return status;
    if (waits_for_held(&streams->waits)) return NOT_READY;
    status = wait_for_all(streams, &streams->waits);
    if (!status && !streams->next_end) status = take_event(streams->device, &streams->events, &streams->next_end);
    if (!status) open_step(&streams->step, reads, writes);
    return status;
}

// What was launched has no end that others could wait for: all of it is over, or nobody can say when.
static int end_at_once(struct wb_streams *streams, int status) {
    if (streams->device->synchronise(streams->given.compute)) streams->lost = status;
    return status;
}

int end_step(struct wb_streams *streams) {
    const struct open_step *open = &streams->step;
    if (!open->is_open) return SUCCESS;
    streams->step.is_open = false;
    int status = streams->device->record(streams->next_end, streams->given.compute);
    if (status) return end_at_once(streams, status);
    struct work *step = pop_last(&streams->spare_steps);
    if (!step) step = grown(NULL, sizeof *step);
    *step = (struct work){.number = ++streams->steps_begun, .is_on_device = true};
    step->stream = streams->given.compute, step->end = streams->next_end, streams->next_end = NULL;
    struct span reads = {open->of, open->reads}, writes = {open->of + open->reads, open->writes};
    if (streams->given.is_ordered) add(&streams->blocks, step, reads, writes);
    push(&streams->steps, step);
    return take_in_steps(streams);
}

// --- in the end

static void free_all(struct queue *queue) {
    void *item;
    while ((item = pop_last(queue))) free(item);
    empty(queue);
}

static void free_transfers(struct queue *queue) {
    struct transfer *one;
    while ((one = pop_last(queue))) {
        free(one->waits.of);
        free(one);
    }
    empty(queue);
}

// A stream that is destroyed does not wait for its copies, whose memory others may have next.
void let_finish(struct wb_streams *streams) {
    for (struct way *way = streams->ways; way < streams->ways + WAYS; way++)
        for (size_t i = 0; i < way->busy.count; i++)
            streams->device->synchronise(((struct lane *)*in_queue(&way->busy, i))->stream);
}

// Gives everything back, also where the device failed under it.
void abandon(struct wb_streams *streams) {
    for (struct way *way = streams->ways; way < streams->ways + WAYS; way++) {
        for (size_t i = 0; i < way->lanes.all.count; i++)
            free_transfers(&((struct lane *)*in_queue(&way->lanes.all, i))->transfers);
        free_transfers(&way->held);
        empty(&way->busy);
        destroy_lanes(streams->device, &way->lanes);
    }
    destroy_events(streams->device, &streams->events);
    destroy_clock(streams->device, &streams->clock);
    forget_blocks(&streams->blocks);
    free_all(&streams->steps), free_all(&streams->spare_steps), free_transfers(&streams->spare_transfers);
    free(streams->step.of), free(streams->waits.of), free(streams->done.of), free(streams->told.of);
}
