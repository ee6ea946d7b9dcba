/* When copies ran on the device, as CUPTI hands it over. It does so in threads of its own and inside driver calls, so
 * nothing here takes the GIL or calls CUDA. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "recorder.h"

#define BUFFER_BYTES (32u << 10) /* too small to show up among the recorded host allocations */

/* Of CUPTI, by address: it is not needed to build this. */
static int (*next_record)(uint8_t *buffer, size_t bytes, void **record); /* cuptiActivityGetNextRecord */
static int (*flush_all)(uint32_t flag);                                  /* cuptiActivityFlushAll */

WB_PUBLIC void wb_copies_init(void *next, void *flush) {
    next_record = (int (*)(uint8_t *, size_t, void **))next;
    flush_all = (int (*)(uint32_t))flush;
}

enum { ACTIVITY_COPY = 1, ACTIVITY_PEER_COPY = 22 };

struct activity { /* the common start of CUpti_ActivityMemcpy* and CUpti_ActivityMemcpyPtoP*: later versions append */
    uint32_t kind;
    uint8_t direction, from, to, flags;
    uint64_t bytes, start_ns, end_ns;
    uint32_t device, context, stream;
};

static uint8_t direction_of(const struct activity *copy) {
    /* CUPTI tells arrays from plain memory; a recording does not */
    static const uint8_t directions[] = {
        0, WB_HOST_TO_DEVICE, WB_DEVICE_TO_HOST, WB_HOST_TO_DEVICE, WB_DEVICE_TO_HOST, WB_DEVICE_TO_DEVICE,
        WB_DEVICE_TO_DEVICE, WB_DEVICE_TO_DEVICE, WB_DEVICE_TO_DEVICE, WB_HOST_TO_HOST, WB_PEER,
    };
    return copy->direction < sizeof directions ? directions[copy->direction] : 0;
}

static void write_copy(const struct activity *copy) {
    struct wb_record record = {
        .time_ns = copy->start_ns,
        .address = copy->end_ns,
        .asked = copy->start_ns,
        .bytes = copy->bytes,
        .stream = copy->stream,
        .device = wb_device_number((int)copy->device),
        .layer = WB_DRIVER,
        .tier = WB_GPU,
        .flags = direction_of(copy),
        .kind = WB_COPY,
    };
    bool is_copy = copy->kind == ACTIVITY_COPY || copy->kind == ACTIVITY_PEER_COPY;
    if (is_copy && record.flags && copy->end_ns) wb_write(&record); /* no end: a flush met it on its way */
}

WB_PUBLIC void wb_on_buffer_requested(uint8_t **buffer, size_t *bytes, size_t *most_records) {
    *buffer = aligned_alloc(8, BUFFER_BYTES);
    *bytes = *buffer ? BUFFER_BYTES : 0;
    *most_records = 0;
}

WB_PUBLIC void wb_on_buffer_completed(void *context, uint32_t stream, uint8_t *buffer, size_t bytes, size_t valid) {
    (void)context, (void)stream, (void)bytes;
    void *activity = NULL;
    while (valid && next_record(buffer, valid, &activity) == 0) write_copy(activity);
    free(buffer);
}

/* --- the flusher: CUPTI's own period returns only full buffers ------------------------------------------------------ */

static pthread_mutex_t flushing = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t woken = PTHREAD_COND_INITIALIZER;
static pthread_t flusher;
static int flusher_runs;
static uint32_t flush_period_ms;

WB_PUBLIC void wb_copies_flush(void) {
    if (flush_all) flush_all(0);
}

static struct timespec in_one_period(void) {
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    uint64_t ns = (uint64_t)at.tv_nsec + flush_period_ms * 1000000ull;
    at.tv_sec += (time_t)(ns / 1000000000u);
    at.tv_nsec = (long)(ns % 1000000000u);
    return at;
}

static void *flush_until_stopped(void *unused) {
    pthread_mutex_lock(&flushing);
    while (flusher_runs) {
        struct timespec until = in_one_period();
        pthread_cond_timedwait(&woken, &flushing, &until);
        if (flusher_runs) wb_copies_flush();
    }
    pthread_mutex_unlock(&flushing);
    return unused;
}

static void start_thread(void) {
    sigset_t all, before; /* signals are for the program's own threads */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    flusher_runs = pthread_create(&flusher, NULL, flush_until_stopped, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void before_fork(void) { pthread_mutex_lock(&flushing); }
static void after_fork(void) { pthread_mutex_unlock(&flushing); }

static void after_fork_in_child(void) {
    pthread_cond_init(&woken, NULL);
    pthread_mutex_init(&flushing, NULL);
    flusher_runs = 0; /* the thread stayed with the parent */
}

static void hold_flushes_over_forks(void) { pthread_atfork(before_fork, after_fork, after_fork_in_child); }

WB_PUBLIC int wb_copies_start_flusher(uint32_t period_ms) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, hold_flushes_over_forks);
    pthread_mutex_lock(&flushing);
    flush_period_ms = period_ms;
    if (!flusher_runs) {
        flusher_runs = 1;
        start_thread();
    }
    int runs = flusher_runs;
    pthread_mutex_unlock(&flushing);
    return runs ? 0 : -1;
}

WB_PUBLIC void wb_copies_stop_flusher(void) {
    pthread_mutex_lock(&flushing);
    int ran = flusher_runs;
    flusher_runs = 0;
    pthread_cond_signal(&woken);
    pthread_mutex_unlock(&flushing);
    if (ran) pthread_join(flusher, NULL);
}
