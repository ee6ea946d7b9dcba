/* The writing half of the spool: the ring, and what a fork makes of it. See spool.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "recorder.h"

#define RING_BYTES (sizeof(struct wb_ring) + (size_t)WB_RING_RECORDS * sizeof(struct wb_record))
#define PATIENCE_NS 2000000000ull /* how long a writer waits for the scribe before it drops an event */

struct wb_settings wb_settings;
_Atomic size_t wb_threshold = SIZE_MAX;
__thread struct wb_thread wb_thread;

static _Atomic(struct wb_process *) current; /* NULL: nothing was ever opened */

WB_PUBLIC uint64_t wb_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* --- entering: calls that the recorder makes go to the kernel directly, past our own hooks and past the points where
 * a thread can be cancelled ---------------------------------------------------------------------------------------- */

static void begin(struct wb_process *process) {
    wb_lock(process);
    if (!process->start) {
        uint64_t start = wb_now();
        snprintf(process->base, sizeof process->base, "%s/%d-%llu", wb_settings.folder, (int)getpid(),
                 (unsigned long long)start);
        atomic_store_explicit(&process->start, start, memory_order_release);
    }
    wb_unlock(process);
}

/* Where the scribe sees it, once there is a ring. */
static void count_lost(struct wb_process *process) {
    struct wb_ring *ring = atomic_load(&process->ring);
    atomic_fetch_add(ring ? &ring->lost : &process->lost, 1);
}

WB_HOT struct wb_process *wb_enter(void) {
    struct wb_process *process = atomic_load_explicit(&current, memory_order_acquire);
    if (WB_UNLIKELY(!process)) return NULL;
    if (WB_UNLIKELY(wb_thread.inside)) {
        count_lost(process);
        return NULL;
    }
    wb_thread.inside = 1;
    wb_thread.saved_errno = errno;
    if (WB_UNLIKELY(!atomic_load_explicit(&process->start, memory_order_acquire))) begin(process);
    return process;
}

void wb_leave(void) {
    errno = wb_thread.saved_errno;
    wb_thread.inside = 0;
}

void wb_lock(struct wb_process *process) {
    for (unsigned spins = 0; atomic_exchange_explicit(&process->lock, 1, memory_order_acquire); spins++)
        if (spins > 100) sched_yield();
}

void wb_unlock(struct wb_process *process) { atomic_store_explicit(&process->lock, 0, memory_order_release); }

void wb_fail(struct wb_process *process, int error) {
    int none = 0;
    atomic_compare_exchange_strong(&process->failed, &none, error);
}

/* --- the ring ----------------------------------------------------------------------------------------------------- */

/* Take the disk space now: a page that finds none when it is written to ends the program with SIGBUS. */
static int reserve(int file) {
    struct rlimit limit;
    if (syscall(SYS_prlimit64, 0, RLIMIT_FSIZE, NULL, &limit) == 0 && limit.rlim_cur < RING_BYTES)
        return EFBIG; /* asking for more than it would end the program with SIGXFSZ */
    if (syscall(SYS_fallocate, file, 0, (off_t)0, (off_t)RING_BYTES) == 0) return 0;
    if (errno != EOPNOTSUPP && errno != ENOSYS) return errno;
    static const char zeros[1 << 16];
    for (size_t at = 0; at < RING_BYTES; at += sizeof zeros) {
        size_t size = RING_BYTES - at < sizeof zeros ? RING_BYTES - at : sizeof zeros;
        ssize_t written = syscall(SYS_pwrite64, file, zeros, size, (off_t)at);
        if (written != (ssize_t)size) return written < 0 ? errno : ENOSPC;
    }
    return 0;
}

static uint64_t pid_namespace(void) {
    struct stat found;
    return syscall(SYS_newfstatat, AT_FDCWD, "/proc/self/ns/pid", &found, 0) ? 0 : found.st_ino;
}

static struct wb_ring *map_ring(int file) {
    void *memory = (void *)syscall(SYS_mmap, NULL, RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file, (off_t)0);
    if (memory == MAP_FAILED) return NULL;
    struct wb_ring *ring = memory;
    ring->pid = (uint32_t)getpid();
    ring->parent = (uint32_t)getppid();
    ring->pid_namespace = pid_namespace();
    ring->threshold = wb_limit();
    ring->magic = WB_RING_MAGIC;
    return ring;
}

/* It gets its name when it is whole, so the scribe never meets half a ring. The lock is held. */
static struct wb_ring *make_ring(struct wb_process *process) {
    char path[WB_PATH + 8], whole[WB_PATH + 8];
    snprintf(path, sizeof path, "%s.new", process->base);
    snprintf(whole, sizeof whole, "%s.ring", process->base);
    int file = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file < 0) {
        wb_fail(process, errno);
        return NULL;
    }
    int error = reserve(file);
    struct wb_ring *ring = error ? NULL : map_ring(file);
    if (!error && (!ring || syscall(SYS_renameat, AT_FDCWD, path, AT_FDCWD, whole))) error = errno;
    syscall(SYS_close, file);
    if (!error) return ring;
    syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    wb_fail(process, error);
    return NULL;
}

static struct wb_ring *ring_of(struct wb_process *process) {
    struct wb_ring *ring = atomic_load_explicit(&process->ring, memory_order_acquire);
    if (WB_LIKELY(ring) || atomic_load(&process->failed)) return ring;
    wb_lock(process);
    ring = atomic_load(&process->ring);
    if (!ring && !atomic_load(&process->failed) && (ring = make_ring(process))) {
        atomic_store(&ring->lost, atomic_exchange(&process->lost, 0));
        atomic_store_explicit(&process->ring, ring, memory_order_release);
    }
    wb_unlock(process);
    return ring;
}

/* Sleep a little, unless the recording is over, the scribe has not moved since a writer gave up on it or the patience of
 * this one is over. */
static bool wait_for_room(struct wb_process *process, struct wb_ring *ring, uint64_t tail, uint64_t *give_up_ns) {
    if (atomic_load(&ring->ended) || atomic_load(&process->stuck) == tail + 1) return false;
    uint64_t now = wb_now();
    if (!*give_up_ns) *give_up_ns = now + PATIENCE_NS;
    if (now > *give_up_ns) {
        atomic_store(&process->stuck, tail + 1);
        return false;
    }
    syscall(SYS_nanosleep, &(struct timespec){.tv_nsec = 200000}, NULL);
    return true;
}

WB_HOT static struct wb_record *claim(struct wb_process *process, struct wb_ring *ring) {
    uint64_t give_up_ns = 0;
    for (;;) {
        /* The tail is read first, so it is never past the head read here. */
        uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
        uint64_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
        if (head - tail >= WB_RING_RECORDS) {
            if (!wait_for_room(process, ring, tail, &give_up_ns)) return NULL;
        } else if (atomic_compare_exchange_weak(&ring->head, &head, head + 1)) {
            return (struct wb_record *)(ring + 1) + head % WB_RING_RECORDS;
        }
    }
}

static void commit(struct wb_record *place, const struct wb_record *record) {
    memcpy(place, record, offsetof(struct wb_record, kind));
    place->waited_us = record->waited_us;
    uint8_t kind = atomic_load_explicit(&record->kind, memory_order_relaxed);
    atomic_store_explicit(&place->kind, kind, memory_order_release);
}

/* The place of the next record, on its way into the cache; NULL, and the event counted lost, where there is none. */
WB_HOT static struct wb_record *place_for_next(struct wb_process *process) {
    struct wb_ring *ring = ring_of(process);
    struct wb_record *place = WB_LIKELY(ring) ? claim(process, ring) : NULL;
    if (WB_LIKELY(place)) __builtin_prefetch(place, 1);
    else count_lost(process);
    return place;
}

WB_HOT static void append(struct wb_process *process, const struct wb_record *record, struct wb_record *place) {
    wb_define_name(process, record->owner);
    wb_define_name(process, record->tag);
    if (WB_LIKELY(place)) commit(place, record);
}

WB_PUBLIC void wb_write_many(const struct wb_record *records, size_t count) {
    struct wb_process *process = wb_enter();
    if (!process) return;
    for (size_t i = 0; i < count; i++) append(process, &records[i], place_for_next(process));
    wb_leave();
}

WB_PUBLIC void wb_write(const struct wb_record *record) { wb_write_many(record, 1); }

static uint32_t thread_id(const struct wb_process *process) {
    if (WB_UNLIKELY(wb_thread.process != process->start)) {
        wb_thread.id = (uint32_t)syscall(SYS_gettid);
        wb_thread.process = process->start;
    }
    return wb_thread.id;
}

WB_HOT void wb_emit(struct wb_record *event, bool stack) {
    struct wb_process *process = wb_enter();
    if (!process) return;
    struct wb_record *place = place_for_next(process);
    event->time_ns = wb_now();
    event->thread = thread_id(process);
    event->tag = wb_thread.tag;
    if (stack) event->stack = wb_stack_of(process);
    append(process, event, place);
    wb_leave();
}

WB_PUBLIC uint16_t *wb_tag_place(void) { return &wb_thread.tag; }
WB_PUBLIC void wb_driver_on(int on) { atomic_store(&wb_settings.driver, on); }
WB_PUBLIC void wb_host_on(int on) {
    atomic_store(&wb_settings.host, on);
    wb_choose_least();
}
WB_PUBLIC void wb_torch_on(int on) {
    atomic_store(&wb_settings.torch, on);
    wb_choose_least();
}
WB_PUBLIC void wb_set_stacks(int mode) { atomic_store(&wb_settings.stacks, mode); }

WB_PUBLIC uint64_t wb_lost(void) {
    struct wb_process *process = atomic_load(&current);
    if (!process) return 0;
    struct wb_ring *ring = atomic_load(&process->ring);
    return atomic_load(&process->lost) + (ring ? atomic_load(&ring->lost) : 0);
}

WB_PUBLIC int wb_failure(void) {
    struct wb_process *process = atomic_load(&current);
    return process ? atomic_load(&process->failed) : 0;
}

WB_PUBLIC const char *wb_base(void) {
    struct wb_process *process = atomic_load(&current);
    return process ? process->base : "";
}

WB_PUBLIC const char *wb_folder(void) { return atomic_load(&current) ? wb_settings.folder : NULL; }

/* --- opening ------------------------------------------------------------------------------------------------------ */

/* For kernels that cannot hand zeros to a child by themselves. */
static void forget(void) {
    struct wb_process *process = atomic_load(&current);
    if (process) syscall(SYS_madvise, process, sizeof *process, MADV_DONTNEED);
}

static struct wb_process *new_process(void) {
    void *memory = (void *)syscall(SYS_mmap, NULL, sizeof(struct wb_process), PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, (off_t)0);
    if (memory == MAP_FAILED) return NULL;
    static _Atomic int handled;
    if (syscall(SYS_madvise, memory, sizeof(struct wb_process), MADV_WIPEONFORK) && !atomic_exchange(&handled, 1))
        pthread_atfork(NULL, NULL, forget);
    return memory;
}

WB_PUBLIC size_t wb_record_from(size_t threshold) {
    size_t before = atomic_exchange(&wb_threshold, threshold);
    wb_choose_least();
    return before;
}

WB_PUBLIC int wb_open(const char *spool_folder, uint64_t threshold) {
    if (wb_limit() != SIZE_MAX) return -EBUSY;
    char *folder = realpath(spool_folder, NULL);
    if (!folder) return -errno;
    bool fits = strlen(folder) < sizeof wb_settings.folder;
    if (fits) strcpy(wb_settings.folder, folder);
    free(folder);
    if (!fits) return -ENAMETOOLONG;
    struct wb_process *process = new_process();
    if (!process) return -ENOMEM;
    wb_find_python();
    atomic_store(&current, process);
    wb_record_from(threshold < 1 ? 1 : threshold);
    return 0;
}

/* Writers may still be inside: the ring is replaced by memory that nobody reads, so that they find ground and the file
 * can go; the process's own memory stays. */
WB_PUBLIC void wb_close(void) {
    wb_record_from(SIZE_MAX);
    struct wb_process *process = atomic_exchange(&current, NULL);
    struct wb_ring *ring = process ? atomic_load(&process->ring) : NULL;
    if (ring)
        syscall(SYS_mmap, ring, RING_BYTES, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, (off_t)0);
}

static size_t bytes_from(const char *variable, size_t otherwise) {
    const char *text = getenv(variable);
    return text && *text ? strtoull(text, NULL, 10) : otherwise;
}

static enum wb_stack_mode stacks_from(const char *text) {
    if (text && strcmp(text, "none") == 0) return WB_STACKS_NONE;
    return text && strcmp(text, "all") == 0 ? WB_STACKS_ALL : WB_STACKS_LARGE;
}

__attribute__((constructor)) static void start(void) {
    wb_find_host();
    const char *folder = getenv("WORKBENCH_SPOOL");
    wb_settings.torch_minimum = bytes_from("WORKBENCH_TORCH_MIN", bytes_from("WORKBENCH_THRESHOLD", 1 << 16));
    wb_settings.stacks = stacks_from(getenv("WORKBENCH_STACKS"));
    if (!folder || !*folder) return;
    const char *without = getenv("WORKBENCH_WITHOUT");
    wb_host_on(!without || !strstr(without, "host"));
    wb_driver_on(!without || !strstr(without, "driver"));
    wb_torch_on(!without || !strstr(without, "torch"));
    wb_open(folder, bytes_from("WORKBENCH_THRESHOLD", 65536));
}
