/* Memory that is taken without an address and mapped afterwards: cuMemCreate and its own. The driver keeps it until
 * every handle is released and every mapping is gone, so both are counted here. It is recorded when it is first mapped,
 * under that address, which mostly follows at once; what is not mapped when a device is read goes by its handle.
 *
 * It may be handed to another process, which then keeps it, too. It is recorded by who made it, and given back when
 * that one has done so. Whether it is free by then a reading of the device tells, and one when the other lets go. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "driver.h"

typedef uint64_t handle;

struct property { /* CUmemAllocationProp, as far as it is read */
    int type, handle_types, location, location_id;
};
enum { ON_DEVICE = 1 };

struct memory {
    handle handle;
    size_t bytes;
    uint64_t address; /* what its allocation was recorded under, 0: it was not yet */
    uint32_t owner;
    int handles, mappings;
    int releases; /* that are under way */
    int device;   /* as CUDA numbers it here; -1: the host's memory */
    bool is_others; /* another process made it, and records it */
    bool is_shared; /* it is others', or may be by now */
};

struct gone { /* shared memory that this process has let go of; bytes 0: none */
    size_t bytes;
    uint32_t owner;
    int device;
};

struct mapping {
    uint64_t address;
    size_t bytes;
    handle handle;
    bool goes; /* is being unmapped */
};

/* Searched from the newest on, which is what a program asks for next. */
struct table {
    void *places;
    size_t size, used, room;
};
static struct table memories = {.size = sizeof(struct memory)}, mappings = {.size = sizeof(struct mapping)};
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;

/* From the kernel itself: the recorder takes nothing from the heap that it records. */
static bool grow(struct table *table) {
    size_t page = 4096, room = table->room ? table->room * 2 : page / table->size;
    void *places = table->places
                       ? (void *)syscall(SYS_mremap, table->places, table->room * table->size, room * table->size, MREMAP_MAYMOVE)
                       : (void *)syscall(SYS_mmap, NULL, room * table->size, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS, -1, (off_t)0);
    if (places == MAP_FAILED) return false;
    table->places = places;
    table->room = room;
    return true;
}

static void *append(struct table *table) {
    if (table->used == table->room && !grow(table)) return NULL;
    return (char *)table->places + table->size * table->used++;
}

/* The last one takes the place of the one that goes. */
static void drop(struct table *table, void *place) {
    char *last = (char *)table->places + table->size * --table->used;
    if (place != last) __builtin_memcpy(place, last, table->size);
}

static struct memory *memory_of(handle of) {
    struct memory *first = memories.places, *at = first + memories.used;
    while (at-- > first)
        if (at->handle == of) return at;
    return NULL;
}

static struct memory *released_memory_of(handle of) {
    struct memory *first = memories.places, *at = first + memories.used;
    while (at-- > first)
        if (at->handle == of && at->releases) return at;
    return NULL;
}

static struct memory *recorded_at(uint64_t address) {
    struct memory *first = memories.places, *at = first + memories.used;
    while (at-- > first)
        if (at->address == address) return at;
    return NULL;
}

static struct mapping *mapping_in(uint64_t start, uint64_t end, bool goes) {
    struct mapping *first = mappings.places, *at = first + mappings.used;
    while (at-- > first)
        if (at->goes == goes && at->address < end && at->address + at->bytes > start) return at;
    return NULL;
}

/* --- what happens to it ------------------------------------------------------------------------------------------- */

static int device_of(const struct property *property) {
    return property->location == ON_DEVICE ? property->location_id : -1;
}

static struct wb_record event_of(int device, uint64_t address, size_t bytes) {
    struct wb_record event = wb_driver_event(device >= 0 ? WB_GPU : WB_PINNED, address, bytes);
    if (device >= 0) event.device = wb_device_number(device);
    return event;
}

/* Memory that was recorded under the same address has left it: the new record says so, whichever thread is first. */
static void record_at(struct memory *memory, uint64_t address) {
    struct memory *before = recorded_at(address);
    if (before) before->address = 0;
    if (memory->address) wb_driver_emit_free(memory->address);
    memory->address = address;
    struct wb_record event = event_of(memory->device, address, memory->bytes);
    event.owner = memory->owner;
    wb_driver_emit(event);
}

static void let_go(struct memory *memory, struct gone *gone) {
    if (memory->handles > 0 || memory->mappings > 0) return;
    if (memory->address) wb_driver_emit_free(memory->address);
    if (memory->is_shared && memory->device >= 0)
        *gone = (struct gone){gone->bytes + memory->bytes, memory->owner, memory->device};
    drop(&memories, memory);
}

static void created(handle made, size_t bytes, const struct property *property) {
    struct memory *memory = append(&memories);
    if (!memory) return;
    *memory = (struct memory){
        .handle = made, .bytes = bytes, .owner = wb_owner_of_driver(), .handles = 1, .device = device_of(property)};
}

static void refused(size_t bytes, const struct property *property) {
    wb_driver_took(event_of(device_of(property), 0, bytes), WB_OUT_OF_MEMORY);
}

static void exported(handle of) {
    struct memory *memory = memory_of(of);
    if (memory) memory->is_shared = true;
}

/* How large it is shows when it is mapped. */
static void imported(handle made) {
    union {
        struct property property;
        char whole[256]; /* larger than that of any driver */
    } told = {0};
    struct memory *memory = memory_of(made);
    if (memory) memory->handles++; /* this process's own */
    if (memory || !wb_driver.memory_property || wb_driver.memory_property(&told, made) != WB_SUCCESS) return;
    if (!(memory = append(&memories))) return;
    *memory = (struct memory){.handle = made,
                              .owner = wb_owner_of_driver(),
                              .handles = 1,
                              .device = device_of(&told.property),
                              .is_others = true,
                              .is_shared = true};
}

static void mapped(uint64_t address, size_t bytes, handle of) {
    struct memory *memory = memory_of(of);
    struct mapping *mapping = memory ? append(&mappings) : NULL;
    if (!mapping) return; /* taken before the recording began */
    *mapping = (struct mapping){.address = address, .bytes = bytes, .handle = of};
    bool is_first = !memory->mappings++;
    if (memory->is_others) memory->bytes += bytes;
    else if (is_first && (!memory->address || memory->address == memory->handle)) record_at(memory, address);
}

static void mark(uint64_t address, size_t bytes, bool goes) {
    struct mapping *mapping;
    while ((mapping = mapping_in(address, address + bytes, !goes))) mapping->goes = goes;
}

static struct gone unmapped(uint64_t address, size_t bytes) {
    struct gone gone = {0};
    struct mapping *mapping;
    while ((mapping = mapping_in(address, address + bytes, true))) {
        struct memory *memory = memory_of(mapping->handle);
        drop(&mappings, mapping);
        if (!memory) continue;
        memory->mappings--;
        let_go(memory, &gone);
    }
    return gone;
}

static void releases(handle of) {
    struct memory *memory = memory_of(of);
    if (memory) memory->releases++;
}

static struct gone released(handle of, wb_status status) {
    struct gone gone = {0};
    struct memory *memory = released_memory_of(of);
    if (!memory) return gone;
    memory->releases--;
    if (status != WB_SUCCESS) return gone;
    memory->handles--;
    let_go(memory, &gone);
    return gone;
}

void wb_record_unmapped(void) {
    pthread_mutex_lock(&guard);
    struct memory *first = memories.places;
    for (size_t i = 0; i < memories.used; i++)
        if (!first[i].address && !first[i].is_others) record_at(&first[i], first[i].handle);
    pthread_mutex_unlock(&guard);
}

/* --- the hooks. All is recorded once it is done. What is given back is marked before: by then another thread may have
 * got its handle or its addresses again. ----------------------------------------------------------------------------- */

static void end(void) { pthread_mutex_unlock(&guard); }
static void before_fork(void) { pthread_mutex_lock(&guard); }

/* None of it is the child's. */
static void begin_in_child(void) {
    memories.used = mappings.used = 0;
    pthread_mutex_init(&guard, NULL);
}

static void follow_forks(void) { pthread_atfork(before_fork, end, begin_in_child); }

/* Kept up also while nothing is recorded: a recording may begin when some of it is in use. */
static bool begin(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (!atomic_load(&wb_settings.driver)) return false;
    pthread_once(&once, follow_forks);
    return pthread_mutex_lock(&guard) == 0;
}

/* Where shared memory went, the device says how much of it did. */
static void read_after(struct gone gone) {
    if (gone.bytes) wb_measure_outlived(gone.owner, gone.device, gone.bytes);
}

WB_DRIVER_HOOK(cuMemCreate, (handle * made, size_t bytes, const struct property *property, unsigned long long flags)) {
    WB_NEEDS(cuMemCreate);
    wb_status status = real_cuMemCreate(made, bytes, property, flags);
    if (status == WB_OUT_OF_MEMORY && wb_records_driver()) refused(bytes, property);
    if (status == WB_SUCCESS && begin()) {
        created(*made, bytes, property);
        end();
    }
    return status;
}

WB_DRIVER_HOOK(cuMemMap, (wb_device_ptr address, size_t bytes, size_t offset, handle of, unsigned long long flags)) {
    WB_NEEDS(cuMemMap);
    wb_status status = real_cuMemMap(address, bytes, offset, of, flags);
    if (status == WB_SUCCESS && begin()) {
        mapped(address, bytes, of);
        end();
    }
    return status;
}

WB_DRIVER_HOOK(cuMemUnmap, (wb_device_ptr address, size_t bytes)) {
    WB_NEEDS(cuMemUnmap);
    if (begin()) {
        mark(address, bytes, true);
        end();
    }
    wb_status status = real_cuMemUnmap(address, bytes);
    struct gone gone = {0};
    if (begin()) {
        if (status == WB_SUCCESS) gone = unmapped(address, bytes);
        else mark(address, bytes, false);
        end();
    }
    read_after(gone);
    return status;
}

WB_DRIVER_HOOK(cuMemRelease, (handle of)) {
    WB_NEEDS(cuMemRelease);
    if (begin()) {
        releases(of);
        end();
    }
    wb_status status = real_cuMemRelease(of);
    struct gone gone = {0};
    if (begin()) {
        gone = released(of, status);
        end();
    }
    read_after(gone);
    return status;
}

WB_DRIVER_HOOK(cuMemRetainAllocationHandle, (handle * made, void *address)) {
    WB_NEEDS(cuMemRetainAllocationHandle);
    wb_status status = real_cuMemRetainAllocationHandle(made, address);
    if (status == WB_SUCCESS && begin()) {
        struct memory *memory = memory_of(*made);
        if (memory) memory->handles++;
        end();
    }
    return status;
}

WB_DRIVER_HOOK(cuMemExportToShareableHandle, (void *made, handle of, int kind, unsigned long long flags)) {
    WB_NEEDS(cuMemExportToShareableHandle);
    wb_status status = real_cuMemExportToShareableHandle(made, of, kind, flags);
    if (status == WB_SUCCESS && begin()) {
        exported(of);
        end();
    }
    return status;
}

WB_DRIVER_HOOK(cuMemImportFromShareableHandle, (handle * made, void *from, int kind)) {
    WB_NEEDS(cuMemImportFromShareableHandle);
    wb_status status = real_cuMemImportFromShareableHandle(made, from, kind);
    if (status == WB_SUCCESS && begin()) {
        imported(*made);
        end();
    }
    return status;
}

const struct wb_hook wb_virtual_hooks[] = {
    WB_DRIVER_ENTRY(cuMemCreate),
    WB_DRIVER_ENTRY(cuMemMap),
    WB_DRIVER_ENTRY(cuMemUnmap),
    WB_DRIVER_ENTRY(cuMemRelease),
    WB_DRIVER_ENTRY(cuMemRetainAllocationHandle),
    WB_DRIVER_ENTRY(cuMemExportToShareableHandle),
    WB_DRIVER_ENTRY(cuMemImportFromShareableHandle),
};
const size_t wb_virtual_hook_count = WB_COUNT(wb_virtual_hooks);
