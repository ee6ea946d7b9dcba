/* The CUDA driver's events, as CUPTI hands them over: allocations with the library that asked, and copies.
 *
 * It hands them over in threads of its own and inside driver calls, so nothing here takes the GIL or calls CUDA.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "driver.h"

#define BUFFER_BYTES (32u << 10) /* too small to show up among the recorded host allocations */
#define GRANULE (2ull << 20) /* the driver takes device memory from the GPU in pieces of 2 MiB */

/* --- the shapes of CUPTI's data, as far as they are read; later versions only append fields ----------------------- */

enum { ACTIVITY_COPY = 1, ACTIVITY_PEER_COPY = 22, ACTIVITY_MEMORY = 49 };
enum { OPERATION_ALLOCATION = 1, OPERATION_RELEASE = 2 };
enum { MEMORY_PINNED = 2, MEMORY_DEVICE = 3, MEMORY_ARRAY = 4, MEMORY_MANAGED = 5 };

struct memory_activity { /* CUpti_ActivityMemory4 */
    uint32_t kind, operation, memory, correlation;
    uint64_t address, bytes, time_ns, caller;
    uint32_t process, device, context, stream;
    const char *symbol;
    uint32_t asynchronous, unused;
    uint64_t pool_type, pool_address, pool_threshold, pool_bytes, pool_used;
    const char *source; /* path of the library that asked; null in releases */
};

struct copy_activity { /* the common start of CUpti_ActivityMemcpy* and CUpti_ActivityMemcpyPtoP* */
    uint32_t kind;
    uint8_t direction, from, to, flags;
    uint64_t bytes, start_ns, end_ns;
    uint32_t device, context, stream;
};

struct wb_driver_api wb_driver;

WB_PUBLIC void wb_driver_init(const struct wb_driver_api *functions) { wb_driver = *functions; }

/* --- allocations and copies ----------------------------------------------------------------------------------------- */

static const char *file_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static uint64_t taken(const struct memory_activity *memory)
{
    /* up to half a granule comes out of granules that several requests share */
    int whole_granules = memory->memory == MEMORY_DEVICE && !memory->asynchronous && memory->bytes > GRANULE / 2;
    return whole_granules ? (memory->bytes + GRANULE - 1) / GRANULE * GRANULE : memory->bytes;
}

static uint32_t owner_of(const struct memory_activity *memory)
{
    if (memory->operation != OPERATION_ALLOCATION)
        return 0;
    return wb_name(memory->source ? file_name(memory->source) : "libcuda.so.1");
}

static void write_memory(const struct memory_activity *memory)
{
    int pinned = memory->memory == MEMORY_PINNED;
    if (memory->memory < MEMORY_PINNED || memory->memory > MEMORY_MANAGED)
        return; /* variables of a module: measured with it */
    struct wb_record record = {
        .time_ns = memory->time_ns,
        .address = memory->address,
        .bytes = taken(memory),
        .asked = memory->bytes,
        .stream = memory->asynchronous ? memory->stream : 0,
        .owner = owner_of(memory),
        .device = pinned ? -1 : (int16_t)memory->device,
        .layer = WB_DRIVER,
        .tier = pinned ? WB_PINNED : WB_GPU,
        .kind = memory->operation == OPERATION_ALLOCATION ? WB_ALLOC : WB_FREE,
    };
    wb_write(&record);
}

static uint8_t direction_of(const struct copy_activity *copy)
{
    /* CUPTI tells arrays from plain memory; a recording does not */
    static const uint8_t directions[] = {
        0, WB_HOST_TO_DEVICE, WB_DEVICE_TO_HOST, WB_HOST_TO_DEVICE, WB_DEVICE_TO_HOST, WB_DEVICE_TO_DEVICE,
        WB_DEVICE_TO_DEVICE, WB_DEVICE_TO_DEVICE, WB_DEVICE_TO_DEVICE, WB_HOST_TO_HOST, WB_PEER,
    };
    return copy->direction < sizeof directions ? directions[copy->direction] : 0;
}

static void write_copy(const struct copy_activity *copy)
{
    struct wb_record record = {
        .time_ns = copy->start_ns,
        .address = copy->end_ns,
        .bytes = copy->bytes,
        .stream = copy->stream,
        .device = (int16_t)copy->device,
        .layer = WB_DRIVER,
        .tier = WB_GPU,
        .flags = direction_of(copy),
        .kind = WB_COPY,
    };
    if (record.flags && copy->end_ns) /* no end: a flush met it on its way */
        wb_write(&record);
}

static void write_activity(const void *activity)
{
    switch (*(const uint32_t *)activity) {
    case ACTIVITY_MEMORY:
        write_memory(activity);
        break;
    case ACTIVITY_COPY:
    case ACTIVITY_PEER_COPY:
        write_copy(activity);
        break;
    }
}

WB_PUBLIC void wb_on_buffer_requested(uint8_t **buffer, size_t *bytes, size_t *most_records)
{
    *buffer = aligned_alloc(8, BUFFER_BYTES);
    *bytes = *buffer ? BUFFER_BYTES : 0;
    *most_records = 0;
}

WB_PUBLIC void wb_on_buffer_completed(void *context, uint32_t stream, uint8_t *buffer, size_t bytes, size_t valid)
{
    (void)context, (void)stream, (void)bytes;
    void *activity = NULL;
    while (valid && wb_driver.next_record(buffer, valid, &activity) == 0)
        write_activity(activity);
    free(buffer);
}

/* A segment of torch's allocator, for where CUPTI cannot be had: the allocator itself tells of it. */
WB_PUBLIC void wb_driver_segment(int freed, uint64_t address, uint64_t bytes, uint64_t stream, int device)
{
    struct wb_record record = {
        .time_ns = wb_now(),
        .address = address,
        .bytes = bytes,
        .asked = bytes,
        .stream = stream,
        .owner = wb_name("libc10_cuda.so"),
        .device = (int16_t)device,
        .layer = WB_DRIVER,
        .tier = WB_GPU,
        .kind = freed ? WB_FREE : WB_ALLOC,
    };
    wb_write(&record);
}

/* --- the flusher: CUPTI's own period returns only full buffers ------------------------------------------------------ */

static pthread_mutex_t flushing = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t woken = PTHREAD_COND_INITIALIZER;
static pthread_t flusher;
static int flusher_runs;
static uint32_t flush_period_ms;

WB_PUBLIC void wb_driver_flush(void)
{
    if (wb_driver.flush_all)
        wb_driver.flush_all(0);
}

static void tick(void)
{
    wb_driver_flush();
    wb_measure_given_back();
}

static struct timespec in_one_period(void)
{
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    uint64_t ns = (uint64_t)at.tv_nsec + flush_period_ms * 1000000ull;
    at.tv_sec += (time_t)(ns / 1000000000u);
    at.tv_nsec = (long)(ns % 1000000000u);
    return at;
}

static void *flush_until_stopped(void *unused)
{
    pthread_mutex_lock(&flushing);
    while (flusher_runs) {
        struct timespec until = in_one_period();
        pthread_cond_timedwait(&woken, &flushing, &until);
        if (flusher_runs)
            tick();
    }
    pthread_mutex_unlock(&flushing);
    return unused;
}

static void start_thread(void)
{
    sigset_t all, before; /* signals are for the program's own threads */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    flusher_runs = pthread_create(&flusher, NULL, flush_until_stopped, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void before_fork(void) { pthread_mutex_lock(&flushing); }
static void after_fork(void) { pthread_mutex_unlock(&flushing); }

static void after_fork_in_child(void)
{
    pthread_cond_init(&woken, NULL);
    pthread_mutex_init(&flushing, NULL);
    flusher_runs = 0; /* the thread stayed with the parent */
}

static void hold_flushes_over_forks(void) { pthread_atfork(before_fork, after_fork, after_fork_in_child); }

WB_PUBLIC int wb_driver_start_flusher(uint32_t period_ms)
{
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

WB_PUBLIC void wb_driver_stop_flusher(void)
{
    pthread_mutex_lock(&flushing);
    int ran = flusher_runs;
    flusher_runs = 0;
    pthread_cond_signal(&woken);
    pthread_mutex_unlock(&flushing);
    if (ran)
        pthread_join(flusher, NULL);
}
