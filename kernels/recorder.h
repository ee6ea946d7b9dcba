/* What the files of the recorder share. Nothing here is seen from outside of the library. */
#ifndef WORKBENCH_RECORDER_H
#define WORKBENCH_RECORDER_H

#include <stdbool.h>
#include <sys/types.h>

#include "spool.h"

#define WB_PUBLIC __attribute__((visibility("default")))
#define WB_LIKELY(x) __builtin_expect(!!(x), 1)
#define WB_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define WB_HOT __attribute__((hot)) /* laid out side by side */
#define WB_COUNT(array) (sizeof(array) / sizeof((array)[0]))

#pragma GCC visibility push(hidden)

enum {
    WB_NAMES = 1u << 13,
    WB_FRAMES = 1u << 16,
    WB_STACKS = 1u << 18,
    WB_DEEPEST = 64, /* innermost frames kept of a stack */
    WB_PATH = 1024,    /* longest path of a spool file: small, since signal handlers have small stacks */
};

enum wb_stack_mode { WB_STACKS_NONE, WB_STACKS_LARGE, WB_STACKS_ALL };

/* Chosen at wb_open. A forked child keeps it. */
struct wb_settings {
    char folder[WB_PATH - 64];
    size_t torch_minimum;
    _Atomic int stacks; /* enum wb_stack_mode */
    _Atomic int host, driver, torch; /* whether the events of these are recorded */
};
extern struct wb_settings wb_settings;

/* Host requests below it are not recorded; SIZE_MAX while nothing is recorded, so that one comparison answers both. */
extern _Atomic size_t wb_threshold;
static inline size_t wb_limit(void) { return atomic_load_explicit(&wb_threshold, memory_order_relaxed); }
size_t wb_host_limit(void); /* the same for requests of others than torch, where host events may be left out */

/* For requests that are not recorded in any case: one comparison is all they cost. */
struct wb_least {
    _Atomic size_t request; /* asked bytes below it */
    _Atomic size_t head;    /* what the allocator keeps before a block, below it; 0: this allocator keeps nothing there */
};
extern struct wb_least wb_least;
void wb_choose_least(void); /* anew, from the thresholds */

/* Of a thread, in one cache line. Initial-exec: the first use by a thread must not allocate. */
struct wb_thread {
    volatile int inside; /* the recorder runs on this thread: what it asks for is not recorded */
    int saved_errno;
    uint64_t process; /* `start` of the process that `id` was read in: a forked thread has a new one */
    uint32_t id;
    uint16_t tag;
    bool torch; /* torch's CPU allocator asks on this thread: see wb_alloc_cpu */
    uint8_t tells_copies; /* see wb_telling_place */
    uint64_t detail_address, detail_asked, detail_stream; /* see wb_torch_detail */
};
extern __thread struct wb_thread wb_thread __attribute__((tls_model("initial-exec"), aligned(64)));

struct wb_frame {
    uintptr_t code;
    uint64_t check; /* tells apart code objects that lived at the same address */
    int32_t instruction;
    _Atomic uint32_t id; /* stored last: 0 is a free place */
};

struct wb_stack {
    uint64_t hash; /* of the ids of its frames: 64 bits are taken for the stack itself */
    _Atomic uint32_t id;
};

/* Of a process. It lives in memory that the kernel hands to a forked child as zeros, so a child has no ring, no lock
 * held and nothing defined, whatever the parent's other threads were doing. */
struct wb_process {
    /* What an event reads comes first, in one cache line: an engine has mostly driven it out since the last event. */
    _Atomic uint64_t start; /* when the process was first seen here; 0: not yet */
    _Atomic(struct wb_ring *) ring;
    _Atomic uint32_t lock; /* guards everything that is not atomic */
    _Atomic int failed;    /* errno of what stopped the recording in this process */
    _Atomic uint64_t defined[WB_NAMES / 64]; /* a bit a name */
    char base[WB_PATH];     /* its files' path, without the suffix */
    _Atomic uint64_t lost;  /* events that no ring could count */
    _Atomic uint64_t stuck; /* 1 + the ring's tail when a writer last gave up waiting for it to move */
    off_t definitions;      /* bytes of whole definitions in the .names file */
    uint32_t frames, stacks;
    struct wb_frame frame_table[WB_FRAMES];
    struct wb_stack stack_table[WB_STACKS];
};

/* Enter and leave the recorder on this thread. False: it is there already (a signal's handler), count the event lost. */
struct wb_process *wb_enter(void);
void wb_leave(void);

void wb_lock(struct wb_process *process);
void wb_unlock(struct wb_process *process);

/* Append a definition; the lock is held. False: it is not in the file and its id must not be used. */
bool wb_define(struct wb_process *process, enum wb_definition_kind kind, uint32_t id, const void *text, size_t length);

/* Define a name in this process's file, if it is not yet. */
void wb_define_new_name(struct wb_process *process, uint32_t id);
static inline void wb_define_name(struct wb_process *process, uint32_t id) {
    uint64_t known = atomic_load_explicit(&process->defined[id / 64 % WB_COUNT(process->defined)], memory_order_acquire);
    if (id && WB_UNLIKELY(!(known >> id % 64 & 1))) wb_define_new_name(process, id);
}

/* Record nothing more in this process, because of an errno. */
void wb_fail(struct wb_process *process, int error);

/* The calling thread's Python stack, between wb_enter and wb_leave. */
uint32_t wb_stack_of(struct wb_process *process);
void wb_find_python(void);

/* Complete an event with time, thread, tag and (if `stack`) Python stack, and write it. */
void wb_emit(struct wb_record *event, bool stack);

/* The id of the name of the library that `code` lies in. `frame` is where to look for the caller of a library that
 * only passes requests on, as C++'s operator new; NULL: do not look. */
uint32_t wb_owner(const void *code, void *const *frame);

/* As wb_owner, of the innermost caller that is neither this library nor CUDA's runtime. */
uint32_t wb_owner_of_driver(void);

/* Whether `code` lies in the library whose malloc the recorder calls: what that one maps, it hands out again. */
bool wb_in_allocator(const void *code);

/* A function that the recorder takes the place of, and the one it calls instead. */
struct wb_hook {
    const char *symbol;
    void *ours;
    void **real; /* NULL inside: not found yet */
};
extern const struct wb_hook wb_host_hooks[], wb_mapping_hooks[], wb_torch_hooks[];
extern const size_t wb_host_hook_count, wb_mapping_hook_count, wb_torch_hook_count;
void wb_find_host(void);
void wb_find_torch(void);

/* The function that a call of `symbol` would reach without this library. */
void *wb_beyond(const char *symbol);

/* dlsym, which is hooked too. */
void *wb_dlsym_beyond(void *handle, const char *symbol);

/* The hook of a function of the CUDA driver, or of dlsym, through which it is found; NULL: none. */
const struct wb_hook *wb_driver_hook(const char *symbol);

/* Point what the loaded libraries keep in their data of the driver's functions at the hooks, or back. */
size_t wb_redirect(bool restore);

/* Export a function under the name that it takes the place of. Inside the library that name could mean the other one. */
#define WB_TAKE_PLACE_OF(name, ours) \
    extern __typeof(ours) name __attribute__((alias(#ours), visibility("default")))
#define WB_HOOK(name) {#name, (void *)wb_##name, (void **)&wb_real.name}

/* The host's functions whose place is taken: those of libc, or of an allocator that was put before it. */
struct wb_real {
    void *(*malloc)(size_t);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void *(*reallocarray)(void *, size_t, size_t);
    void *(*aligned_alloc)(size_t, size_t);
    int (*posix_memalign)(void **, size_t, size_t);
    void *(*memalign)(size_t, size_t);
    void *(*valloc)(size_t);
    void *(*pvalloc)(size_t);
    void (*free)(void *);
    size_t (*usable)(void *);
    void *(*mmap)(void *, size_t, int, int, int, off_t);
    void *(*mmap64)(void *, size_t, int, int, int, off_t);
    void *(*mremap)(void *, size_t, size_t, int, ...);
    int (*munmap)(void *, size_t);
};
extern struct wb_real wb_real;

uint32_t wb_torch_name(void);
struct wb_record wb_host_event(uint8_t kind, const void *address, size_t bytes, size_t asked);
bool wb_host_stacks(void);
bool wb_keeps_stack(size_t bytes);

#pragma GCC visibility pop
#endif
