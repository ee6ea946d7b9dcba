// The ring that transfers are submitted through, the thread that hands them on, and what others call.
#define _GNU_SOURCE
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "streams.h"

enum { AT_A_TIME = 64 }; // entries, before others may have the mutex
static const uint64_t AWAKE_NS = 200000; // for as long after a step, a look or a transfer: more comes soon

// --- entries

static bool has_more(struct wb_streams *streams) {
    uint64_t number = atomic_load_explicit(&streams->shared->taken, memory_order_relaxed);
    const _Atomic uint64_t *entry = streams->shared->words[number % RING];
    for (int i = 0; i < 4; i++)
        if (!atomic_load_explicit(&entry[i], memory_order_relaxed)) return false;
    return true;
}

// With the mutex.
static void drain(struct wb_streams *streams, uint64_t most) {
    struct wb_shared *shared = streams->shared;
    for (; most && has_more(streams); most--) {
        uint64_t number = shared->taken, *entry = (uint64_t *)shared->words[number % RING], size = entry[2] >> 1;
        struct asked asked = {
            .number = number, .target = entry[0] >> 1, .source = entry[1] >> 1, .bytes = size >> 1,
            .submitted_ns = entry[3], .way = (int)(size & 1),
        };
        memset(entry, 0, sizeof shared->words[0]);
        accept(streams, asked);
        atomic_store_explicit(&shared->taken, number + 1, memory_order_release);
    }
}

// --- who may

static uint8_t was_telling(struct wb_streams *streams, uint8_t telling) {
    if (!streams->given.telling) return 0;
    uint8_t *place = streams->given.telling(), was = *place;
    return *place = telling, was;
}

static uint8_t enter(struct wb_streams *streams) {
    pthread_mutex_lock(&streams->mutex);
    if (streams->device->push_context) streams->device->push_context(streams->given.context);
    return was_telling(streams, 1);
}

static void leave(struct wb_streams *streams, uint8_t telling) {
    void *popped;
    was_telling(streams, telling);
    if (streams->device->pop_context) streams->device->pop_context(&popped);
    pthread_mutex_unlock(&streams->mutex);
}

// --- the thread

static bool is_wanted(struct wb_streams *streams) {
    return has_more(streams) || atomic_load(&streams->look) || atomic_load(&streams->ends);
}

// A core that another thread waits for goes to it.
static void relax(void) {
    for (int i = 0; i < 32; i++) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("isb" ::: "memory");
#endif
    }
    sched_yield();
}

static bool stays_awake(struct wb_streams *streams) { return now() < atomic_load(&streams->awake_until); }

static bool is_wanted_soon(struct wb_streams *streams) {
    do {
        if (is_wanted(streams)) return true;
        relax();
    } while (stays_awake(streams));
    return false;
}

// Who submits writes words and then reads whether the thread sleeps, with no barrier between the two: the thread has the
// kernel put one there. Where the kernel can not, it sleeps a little at a time.
static void sleep_until_woken(struct wb_streams *streams) {
    const struct timespec a_little = {.tv_nsec = 1000000};
    atomic_store(&streams->shared->sleeps, 1);
    long can_not = syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
    while (!is_wanted(streams) && !stays_awake(streams) && atomic_load(&streams->shared->sleeps))
        syscall(SYS_futex, &streams->shared->sleeps, FUTEX_WAIT_PRIVATE, 1, can_not ? &a_little : NULL, NULL, 0);
    atomic_store(&streams->shared->sleeps, 0);
}

// It is awake for a while from here on, also where it was about to sleep.
static void wake(struct wb_streams *streams) {
    if (!streams->given.has_thread) return;
    atomic_store(&streams->awake_until, now() + AWAKE_NS);
    if (atomic_exchange(&streams->shared->sleeps, 0))
        syscall(SYS_futex, &streams->shared->sleeps, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void *hands_on(void *given) {
    struct wb_streams *streams = given;
    while (!atomic_load(&streams->ends)) {
        if (!is_wanted_soon(streams)) sleep_until_woken(streams);
        uint8_t telling = enter(streams);
        uint64_t most = atomic_exchange(&streams->look, 0);
        drain(streams, AT_A_TIME);
        if (most) look(streams, most);
        leave(streams, telling);
        atomic_store(&streams->awake_until, now() + AWAKE_NS);
    }
    return NULL;
}

// Signals are for others.
static int start_thread(struct wb_streams *streams) {
    sigset_t all, before;
    syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&streams->thread, NULL, hands_on, streams);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error ? OUT_OF_MEMORY : SUCCESS;
}

static void stop_thread(struct wb_streams *streams) {
    atomic_store(&streams->ends, true);
    wake(streams);
    pthread_join(streams->thread, NULL);
}

// --- what kernels/transfers.py calls

WB_PUBLIC struct wb_streams *wb_streams_open(const struct wb_device *device, const struct wb_given *given, int *status) {
    struct wb_streams *streams = grown(NULL, sizeof *streams);
    *streams = (struct wb_streams){.device = device, .given = *given};
    for (int way = 0; way < WAYS; way++)
        streams->ways[way].lanes = (struct lanes){.limit = given->limit, .depth = given->depth};
    streams->shared = aligned_alloc(64, sizeof *streams->shared);
    if (!streams->shared) abort();
    memset(streams->shared, 0, sizeof *streams->shared);
    streams->shared->sleeps = !given->has_thread;
    pthread_mutex_init(&streams->mutex, NULL);
    uint8_t telling = enter(streams);
    *status = make_clock(device, &streams->clock);
    leave(streams, telling);
    if (!*status && given->has_thread) *status = start_thread(streams);
    if (*status) streams->given.has_thread = 0;
    return streams;
}

WB_PUBLIC struct wb_shared *wb_streams_shared(struct wb_streams *streams) { return streams->shared; }

WB_PUBLIC int wb_streams_prepare(struct wb_streams *streams, uint64_t transfers, uint64_t events) {
    uint8_t telling = enter(streams);
    int status = prepare_events(streams->device, &streams->events, events);
    for (int way = 0; way < WAYS && !status; way++)
        status = prepare_lanes(streams->device, &streams->ways[way].lanes, transfers);
    leave(streams, telling);
    return status;
}

// All that was submitted is taken from the ring: by who calls, whatever the thread does.
WB_PUBLIC void wb_streams_drain(struct wb_streams *streams) {
    uint8_t telling = enter(streams);
    drain(streams, UINT64_MAX);
    leave(streams, telling);
}

// What was submitted goes on, by the thread that slept or, where there is none, by who calls.
WB_PUBLIC void wb_streams_go_on(struct wb_streams *streams) {
    if (streams->given.has_thread) return wake(streams);
    wb_streams_drain(streams);
}

WB_PUBLIC void wb_streams_look(struct wb_streams *streams, uint64_t most) {
    if (streams->given.has_thread) {
        atomic_store(&streams->look, most);
        return wake(streams);
    }
    uint8_t telling = enter(streams);
    drain(streams, UINT64_MAX);
    look(streams, most);
    leave(streams, telling);
}

WB_PUBLIC void wb_streams_advance(struct wb_streams *streams) {
    uint8_t telling = enter(streams);
    drain(streams, UINT64_MAX);
    advance(streams);
    leave(streams, telling);
}

// The transfers of a step come right after it. The thread is woken at both ends: after a short step it is awake already,
// and who submits is not slowed by the call that wakes it.
WB_PUBLIC int wb_streams_begin_step(struct wb_streams *streams, const struct piece *reads, size_t read,
                                    const struct piece *writes, size_t written) {
    uint8_t telling = enter(streams);
    drain(streams, UINT64_MAX);
    int status = begin_step(streams, (struct span){reads, read}, (struct span){writes, written});
    leave(streams, telling);
    wake(streams);
    return status;
}

WB_PUBLIC int wb_streams_end_step(struct wb_streams *streams) {
    uint8_t telling = enter(streams);
    int status = end_step(streams);
    leave(streams, telling);
    wake(streams);
    return status;
}

// Gives how many more are over, and where they are. The same again, until `collected` says that they arrived.
WB_PUBLIC size_t wb_streams_collect(struct wb_streams *streams, const struct wb_done **of) {
    if (!streams->told.count) {
        pthread_mutex_lock(&streams->mutex);
        struct done told = streams->done;
        streams->done = streams->told, streams->told = told;
        pthread_mutex_unlock(&streams->mutex);
    }
    *of = streams->told.of;
    return streams->told.count;
}

WB_PUBLIC void wb_streams_collected(struct wb_streams *streams) { streams->told.count = 0; }

// What failed and is no transfer's, once: the thread may note the next failure at the same time.
WB_PUBLIC int wb_streams_failure(struct wb_streams *streams) { return (int)atomic_exchange(&streams->shared->failed, 0); }

// What the device has it finishes; what it has not, it never gets.
WB_PUBLIC void wb_streams_close(struct wb_streams *streams) {
    if (streams->given.has_thread) stop_thread(streams);
    uint8_t telling = enter(streams);
    let_finish(streams);
    abandon(streams);
    leave(streams, telling);
    pthread_mutex_destroy(&streams->mutex);
    free(streams->shared);
    free(streams);
}
