// Transfers between a device and the host's page-locked memory, on streams that are lent to them.
//
// Who drives the model writes a transfer into a ring and goes on (ring.c). A thread here, or whoever waits for
// something, hands it on to the device (transfers.c): behind all that touches the same blocks (order.c), on a stream of
// its own or one to share (lanes.c). kernels/transfers.py mirrors the structures whose names begin with `wb_`.
#ifndef WORKBENCH_STREAMS_H
#define WORKBENCH_STREAMS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "device.h"
#include "queue.h"

// --- what waits for what: order.c

// Something on a stream: a transfer, or a step of compute. Its place is used again, by another number.
struct work {
    uint64_t number; // in the order of submission, of transfers or of steps
    void *stream;
    void *end;       // the event
    bool is_on_device, is_over; // neither: it is held
};

struct reference {
    struct work *work; // NULL: none
    uint64_t number;
};

struct references {
    struct reference *of;
    size_t count, room;
};

struct piece { // of memory
    uint64_t address, bytes;
};

struct span { // pieces that are blocks
    const struct piece *of;
    size_t count;
};

struct extents { // sorted by their addresses: extents.c
    struct extent {
        uint64_t first, end;
        uint64_t size; // of each block in it
    } *of;
    size_t count, room;
};

// Gives whether a piece can be a block beside those that there are, and has it be one.
bool cover(struct extents *extents, struct piece piece);

struct block;
struct blocks {
    struct block *of;
    size_t count, room; // a power of two
    struct extents extents;
    uint64_t asked; // so many times what is before something
};

static inline struct reference to(struct work *work) { return (struct reference){work, work->number}; }
static inline bool is_over(struct reference one) {
    return !one.work || one.work->number != one.number || one.work->is_over;
}
static inline bool is_held(struct reference one) { return !is_over(one) && !one.work->is_on_device; }

void refer(struct references *all, struct reference one);
// What must be over before these blocks are read and written. Gives whether they are blocks: not where they overlap
// others with work that is not over.
bool before(struct blocks *blocks, struct span reads, struct span writes, struct references *waits);
// Have later work on these blocks, the last ones that `before` was asked of, wait for this one.
void add(struct blocks *blocks, struct work *work, struct span reads, struct span writes);
// What is enough to wait for, of works that are on the device.
void keep_last_of_each_stream(struct references *all);
void forget_blocks(struct blocks *blocks);

// --- what transfers borrow: lanes.c

struct waited;
struct lane { // a stream, and the transfers on it
    void *stream;
    struct queue transfers; // oldest first
    uint64_t ended_ns;      // when the last one that is over was
    uint64_t lent;          // to so many
    bool has_room;          // it is shared, and among those with room
    struct waited *waited;  // by other stream, the number of the last work of it
    size_t waited_count, waited_room;
};

struct lanes { // of one direction
    uint64_t limit, depth;
    struct queue all, idle;
    struct queue shared; // that more fits on; the one that was given longest ago first
};

struct events {
    struct queue all, free;
};

// A lane that nobody has, else a new one, else one to share; `taken` is NULL where there is no room.
int take_lane(const struct wb_device *device, struct lanes *lanes, struct lane **taken);
void give_back_lane(struct lanes *lanes, struct lane *lane); // one transfer less is on it
int prepare_lanes(const struct wb_device *device, struct lanes *lanes, uint64_t transfers);
void destroy_lanes(const struct wb_device *device, struct lanes *lanes);
// Whether what comes next on a lane would not wait for a work yet. It is taken to do so from here on.
bool must_wait(struct lane *lane, struct reference one);

int take_event(const struct wb_device *device, struct events *events, void **taken);
void give_back_event(struct events *events, void *event); // NULL is none
int prepare_events(const struct wb_device *device, struct events *events, uint64_t count);
void destroy_events(const struct wb_device *device, struct events *events);

// --- when: clock.c

enum { FIRST, OTHER, NEXT, MARKS };
struct mark { // an event of the device's, and when it happened on CLOCK_MONOTONIC
    void *event;
    uint64_t ns;
};

struct clock {
    void *stream;
    struct mark marks[MARKS];
    struct mark *last, *next; // of the others the one that was made last, and the one to make
    double ns_a_ms;           // on CLOCK_MONOTONIC, of the device's clock
    uint64_t tried_ns;        // to make one
};

uint64_t now(void);
int make_clock(const struct wb_device *device, struct clock *clock);
// Where the last mark is old makes another one, unless the device is busy: nobody waits for it.
int keep_time(const struct wb_device *device, struct clock *clock);
int time_of(const struct wb_device *device, const struct clock *clock, void *event, uint64_t *ns);
void destroy_clock(const struct wb_device *device, struct clock *clock);

// --- transfers: transfers.c

enum { LOAD, STORE, WAYS };
enum { RING = 1 << 16 }; // transfers

struct wb_given {
    void *compute; // the stream
    void *context;
    uint64_t limit, depth; // of lanes, and of transfers on one
    uint64_t is_ordered;
    uint64_t has_thread;
    uint8_t *(*telling)(void); // the calling thread's byte that says that no hook need record its copies; NULL: none does
};

// What Python and this share without a lock. A word of an entry is 0 until it is written, and again once it was taken:
// so what is there is known without any order among its words. The lowest bit of the first three is 1.
struct wb_shared {
    _Atomic uint64_t taken;     // entries
    _Atomic uint64_t under_way; // transfers that were taken and are not over
    _Atomic uint64_t on_device; // of these
    _Atomic uint64_t failed;    // a CUresult that is of no transfer; 0: none
    uint64_t unused[4];
    _Atomic uint32_t sleeps; // the thread does, or there is none: go on by a call
    uint32_t padding[15];
    _Atomic uint64_t words[RING][4]; // target, source, bytes and the way, when it was submitted
};

struct wb_done { // a transfer that is over
    uint64_t number, stream, submitted_ns, handed_ns, call_ns, began_ns, ended_ns;
    uint64_t status; // a CUresult
};

struct transfer {
    struct work work;
    struct piece target, source;
    int way;
    struct references waits; // until it is on the device
    void *begin;             // the event; none: it begins when the one before it on its stream ends
    uint64_t submitted_ns, handed_ns, call_ns; // handed on to the driver, for so long
};

struct way { // a direction
    struct lanes lanes;
    struct queue busy; // lanes
    struct queue held; // transfers, because none has room
};

struct wb_streams {
    const struct wb_device *device;
    struct wb_given given;
    struct wb_shared *shared;
    pthread_mutex_t mutex; // of all that follows
    pthread_t thread;
    _Atomic bool ends;
    _Atomic uint64_t look; // for so many that are over
    _Atomic uint64_t awake_until; // the thread, at least
    struct way ways[WAYS];
    struct events events;
    struct blocks blocks;
    struct queue steps; // of compute
    uint64_t steps_begun;
    struct open_step {
        bool is_open;
        struct piece *of; // copies of its blocks: those that it reads, then those that it writes
        size_t reads, writes, room;
    } step;
    void *next_end; // the event of the next one
    int lost;       // a status: compute was launched that nothing can be ordered with
    struct queue spare_steps, spare_transfers;
    struct references waits; // of a step
    struct clock clock;
    struct done {
        struct wb_done *of;
        size_t count, room;
    } done, told; // what is over, and what of it Python is being told: that is Python's alone
};

// All with the mutex.
struct asked { // for a transfer
    uint64_t number, target, source, bytes, submitted_ns;
    int way;
};
void accept(struct wb_streams *streams, struct asked asked);
void look(struct wb_streams *streams, uint64_t most); // take in what is over, and hand on what was held
void advance(struct wb_streams *streams);             // wait for the device to get on, and look
int begin_step(struct wb_streams *streams, struct span reads, struct span writes);
int end_step(struct wb_streams *streams); // nothing where none is open
void let_finish(struct wb_streams *streams); // wait for all that the device has
void abandon(struct wb_streams *streams);

#endif
