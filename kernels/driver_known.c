/* What the driver has handed out at an address and not taken back. So a free that fails is none, and what goes with its
 * context is known to be gone.
 *
 * A free is recorded once it has succeeded, and by then another thread may have the address already. So every
 * allocation has a number of its own: where the one given back has been followed by another, the record of that one has
 * said that the memory was free. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "driver.h"

struct place { /* one allocation; open addressing with linear probing */
    uint64_t address; /* 0: an empty place */
    uint64_t number;
};

static struct place *places;
static size_t room, used; /* a power of two, at most half of it taken */
static uint64_t last_number;
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;

static size_t home_of(uint64_t address) { return address * 0x9e3779b97f4a7c15ull >> 32 & (room - 1); }

/* The place of an address, or the empty one where it belongs. */
static struct place *find(uint64_t address) {
    size_t at = home_of(address);
    while (places[at].address && places[at].address != address) at = (at + 1) & (room - 1);
    return &places[at];
}

static uint64_t number_of(uint64_t address) { return room ? find(address)->number : 0; }

/* From the kernel itself: the recorder takes nothing from the heap that it records. */
static bool grow(void) {
    struct place *before = places;
    size_t rooms_before = room, bigger = room ? 2 * room : 256;
    void *memory = (void *)syscall(SYS_mmap, NULL, bigger * sizeof *places, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS, -1, (off_t)0);
    if (memory == MAP_FAILED) return false;
    places = memory;
    room = bigger;
    for (size_t i = 0; i < rooms_before; i++)
        if (before[i].address) *find(before[i].address) = before[i];
    if (before) syscall(SYS_munmap, before, rooms_before * sizeof *before);
    return true;
}

static void know(uint64_t address) {
    if (2 * used >= room && !grow()) return;
    struct place *place = find(address);
    used += !place->address;
    *place = (struct place){.address = address, .number = ++last_number};
}

/* Empty a place, and move those behind it that were pushed there to where they are found without it. */
static void forget(struct place *place) {
    size_t hole = (size_t)(place - places);
    for (size_t at = (hole + 1) & (room - 1); places[at].address; at = (at + 1) & (room - 1)) {
        if (((at - home_of(places[at].address)) & (room - 1)) < ((at - hole) & (room - 1))) continue;
        places[hole] = places[at];
        hole = at;
    }
    places[hole] = (struct place){0};
    used--;
}

/* --- what the hooks say ------------------------------------------------------------------------------------------- */

static void end(void) { pthread_mutex_unlock(&guard); }
static void before_fork(void) { pthread_mutex_lock(&guard); }

/* None of it is the child's. */
static void begin_in_child(void) {
    for (size_t i = 0; i < room; i++) places[i] = (struct place){0};
    used = 0;
    pthread_mutex_init(&guard, NULL);
}

static void follow_forks(void) { pthread_atfork(before_fork, end, begin_in_child); }

static bool begin(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (!atomic_load(&wb_settings.driver)) return false;
    pthread_once(&once, follow_forks);
    return pthread_mutex_lock(&guard) == 0;
}

void wb_driver_took(struct wb_record event, wb_status status) {
    if (status != WB_SUCCESS && status != WB_OUT_OF_MEMORY) return;
    if (status == WB_OUT_OF_MEMORY) event.kind = WB_REFUSED;
    event.owner = wb_owner_of_driver();
    if (!begin()) return;
    if (status == WB_SUCCESS) know(event.address);
    wb_driver_emit(event);
    end();
}

struct wb_giving wb_driver_gives(uint64_t address) {
    if (!address || !begin()) return (struct wb_giving){0};
    struct wb_giving giving = {.address = address, .number = number_of(address)};
    end();
    return giving;
}

void wb_driver_gave(struct wb_giving giving, wb_status status) {
    if (!giving.address || status != WB_SUCCESS || !begin()) return;
    if (number_of(giving.address) == giving.number) {
        if (giving.number) forget(find(giving.address));
        wb_driver_emit_free(giving.address);
    }
    end();
}

/* The driver does not know an address any more whose memory is gone. */
static bool is_gone(uint64_t address) {
    enum { MEMORY_TYPE = 2, INVALID_VALUE = 1 };
    unsigned type;
    return wb_driver.pointer_attribute(&type, MEMORY_TYPE, address) == INVALID_VALUE;
}

void wb_record_gone(void) {
    if (!wb_driver.pointer_attribute || !begin()) return;
    for (size_t i = 0; i < room;) {
        uint64_t address = places[i].address;
        if (address && is_gone(address)) {
            forget(&places[i]); /* which may move another one here */
            wb_driver_emit_free(address);
        } else {
            i++;
        }
    }
    end();
}
