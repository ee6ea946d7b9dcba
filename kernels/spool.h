/* The spool: how a recorded process hands its events to the scribe that writes the run.
 *
 * One ring of fixed records a process, in a file of the run's folder that both sides map. Writers are any threads of
 * the recorded process and never wait for a lock; the one reader is the scribe. What a killed process had written
 * stays in the file, so a kill loses nothing that was recorded.
 *
 *   <run>/spool/<pid>-<start>.ring    struct wb_ring, then WB_RING_RECORDS records
 *   <run>/spool/<pid>-<start>.names   definitions that records refer to (names, frames, stacks), appended before use
 */
#ifndef WORKBENCH_SPOOL_H
#define WORKBENCH_SPOOL_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define WB_RING_MAGIC 0x31474e4952425721ull
/* 4 MiB of records. Not more, so that they come round soon: a page that is written to for the first time, or after the
 * kernel has saved it, costs some 20 us. */
#define WB_RING_RECORDS (1u << 16)

enum wb_kind { WB_ALLOC = 1, WB_FREE = 2, WB_MEASURE = 3, WB_COPY = 4, WB_REFUSED = 5 };
enum wb_layer { WB_DRIVER = 1, WB_ALLOCATOR = 2, WB_HOST = 3 };
enum wb_tier { WB_GPU = 1, WB_PINNED = 2, WB_PAGEABLE = 3 };

/* One event. `kind` is stored last, with release order: a record whose kind is 0 is not there yet.
 *   WB_MEASURE: `bytes` is the device's used memory just after what `owner` names was created or destroyed.
 *   WB_REFUSED: nobody had the `asked` bytes to give.
 *   WB_COPY:    `time_ns` when it was handed on to the driver, `thread` for how many ns (at most 2^32 - 1) that call
 *               took, `waited_us` how long before it was submitted; with an `address` that is when it ended on the device
 *               and `asked` when it began. `thread` is 0 where nobody saw the call: then `time_ns` is when it began.
 *               `flags` the direction (enum wb_direction). */
struct wb_record {
    uint64_t time_ns; /* CLOCK_MONOTONIC: the one clock of a run */
    uint64_t address;
    uint64_t bytes;  /* taken */
    uint64_t asked;  /* requested; equals `bytes` where only one of them is known */
    uint64_t stream; /* 0 on the host */
    uint32_t owner;  /* id of a name */
    uint32_t stack;  /* id of a stack, 0: none */
    uint32_t thread; /* kernel thread id, 0: not known */
    uint16_t tag;    /* id of a name, 0: none */
    int16_t device;  /* as NVML numbers it, also where CUDA_VISIBLE_DEVICES has CUDA number it otherwise; -1: the host */
    uint8_t layer;
    uint8_t tier;
    uint8_t flags;
    _Atomic uint8_t kind;
    uint32_t waited_us; /* of WB_COPY */
};
_Static_assert(sizeof(struct wb_record) == 64, "a record is one cache line");

/* `flags` of host events that come from mmap, mremap and munmap. */
enum wb_mapping {
    WB_FILE = 1,     /* bytes of a file */
    WB_SHARED = 2,   /* may be mapped by other processes too */
    WB_RESERVED = 4, /* addresses only (PROT_NONE) */
    WB_MOVED = 8,    /* the memory of the free just before it on this thread, with its kind of mapping */
    WB_RANGE = 16,   /* a free of these addresses: of a part of a mapping, or of several */
};

/* `flags` of WB_MEASURE. */
enum wb_reading {
    WB_BASELINE = 1,  /* what has changed is of nobody */
    WB_CONTEXT_ENDED = 2, /* what has gone is of its owner, and of all else that is measured */
    WB_OUTLIVED = 4,      /* what is more was given back and is another process's too; what has gone is of such memory */
};

/* `flags` of allocations of the driver. */
enum wb_driver_flag { WB_REGISTERED = 1 /* memory of the host's own that was locked where it lies */ };

enum wb_direction { WB_HOST_TO_DEVICE = 1, WB_DEVICE_TO_HOST = 2, WB_DEVICE_TO_DEVICE = 3, WB_HOST_TO_HOST = 4, WB_PEER = 5 };

struct wb_ring {
    uint64_t magic;
    uint32_t pid; /* and `parent`: as the process's own namespace numbers them */
    uint32_t parent;
    _Atomic uint64_t head; /* slots claimed by writers */
    _Atomic uint64_t tail; /* slots given back by the scribe */
    _Atomic uint64_t lost; /* events dropped because the scribe did not keep up or is gone */
    uint64_t threshold;    /* host requests below it are not recorded */
    _Atomic uint64_t ended; /* 1: the recording is over, and nobody gives slots back any more */
    uint64_t pid_namespace; /* inode of /proc/self/ns/pid, 0: not known */
    uint8_t pad[4096 - 64];
};
_Static_assert(sizeof(struct wb_ring) == 4096, "records start on a page");

/* A definition in the .names file: this head, then `length` bytes. Ids count from 1 in each process and kind.
 *   WB_NAME:  UTF-8 text.   WB_FRAME: "file\0function\0line".   WB_STACK: uint32 frame ids, innermost first. */
enum wb_definition_kind { WB_NAME = 1, WB_FRAME = 2, WB_STACK = 3 };
struct wb_definition {
    uint32_t kind;
    uint32_t id;
    uint32_t length;
};

/* --- for writers ------------------------------------------------------------------------------------------------
 * A preloaded library opens itself from the environment, before main:
 *   WORKBENCH_SPOOL      folder of the spool; not set: the library does nothing
 *   WORKBENCH_THRESHOLD  bytes (65536)
 *   WORKBENCH_STACKS     none | large (host requests that are recorded, GPU blocks; the default) | all
 *   WORKBENCH_WITHOUT    names of sources that are left out: with `driver` among them the CUDA driver's events are not
 *                        recorded
 *   WORKBENCH_TORCH_MIN  bytes (as the threshold): torch's CPU blocks below it are not recorded
 */
int wb_open(const char *spool_folder, uint64_t threshold); /* 0, or -errno; the ring itself is made at the first record */
void wb_close(void);                                       /* nothing is recorded from here on; wb_open may follow */
size_t wb_record_from(size_t threshold);                   /* SIZE_MAX: nothing, for a while; returns what it was */
void wb_write(const struct wb_record *record);             /* `kind` of the argument is the kind to commit */
void wb_write_many(const struct wb_record *records, size_t count);
uint32_t wb_name(const char *text); /* the id of a name, below 65536 and valid in forked children too; 0: no room */
uint16_t *wb_tag_place(void); /* of the calling thread: the name of what it allocates from here on is for, 0: nobody says */
uint8_t *wb_telling_place(void); /* of the calling thread: 1 while it tells of its copies itself, so that no hook does */
uint32_t wb_python_stack(void); /* id of the calling thread's Python stack, 0: none */
void wb_set_stacks(int mode);   /* 0 none, 1 large, 2 all */
/* Whether the events of these are recorded: off, unless the environment has a spool. */
void wb_host_on(int on);
void wb_driver_on(int on);
void wb_torch_on(int on);
void wb_driver_copies(int on); /* whether copies are among them */
int16_t wb_device_number(int device); /* in a run, of the device that CUDA numbers so in this process */
int wb_driver_measures(void); /* how many devices' used memory is read, which shows what no call names */
void wb_torch_from(size_t minimum); /* bytes; torch's CPU blocks below it are not recorded */
uint64_t wb_now(void);
uint64_t wb_lost(void); /* events of this process that are not in its ring */
int wb_failure(void);   /* errno of what stopped the recording in this process, 0: nothing did */
const char *wb_folder(void); /* where this process records into, NULL: nowhere */
const char *wb_base(void);   /* path of this process's spool files without their suffix; "" while it has written none */
/* The requested size and the stream of the GPU block at `address`, for the report of it that torch makes next on this
 * thread. */
void wb_torch_detail(uint64_t address, uint64_t asked, uint64_t stream);

/* --- for recording in a process that runs already ----------------------------------------------------------------
 * The hooks take effect where the library was preloaded. Elsewhere wb_patch points every loaded library's references
 * to the hooked functions at them, and those of libraries that are loaded later; wb_unpatch points them back. */
int wb_preloaded(void);         /* whether calls of malloc reach this library by themselves */
const char *wb_allocator(void); /* path of the library whose malloc this one calls */
size_t wb_patch(void);          /* references changed */
size_t wb_unpatch(void);

/* --- for the scribe --------------------------------------------------------------------------------------------- */
/* Copy up to `most` committed records to `out`, clear their slots, give them back. `skip` steps over slots that were
 * claimed and never committed (their thread died); they count as lost. */
size_t wb_drain(struct wb_ring *ring, struct wb_record *out, size_t most, int skip);

/* What a process has in use; NULL where there is no memory for it. */
struct wb_live;
struct wb_live_out {
    struct wb_record *rows; /* room for two a taken event */
    uint64_t count;
    uint64_t unknown_frees; /* of memory that was handed out before the recording began */
};
struct wb_live *wb_live_new(void);
void wb_live_delete(struct wb_live *live);
size_t wb_live_rows(const struct wb_live *live, struct wb_record *out); /* copies them; NULL: only tells how many */
/* Take events in the order of time, and append to `out` what goes into the run: an allocation as it is, after a free of
 * what was in use in its place, for that free was not seen; a free with what its allocation knew; an unknown free not.
 * Returns how many were taken: it stops before a free of addresses that are not those of one mapping, and at the end
 * of memory. */
size_t wb_live_apply(struct wb_live *live, const struct wb_record *events, size_t count, struct wb_live_out *out);

#endif
