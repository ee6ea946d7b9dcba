/* The used memory of a device around what no allocation record shows: contexts, modules, streams and graphs.
 *
 * It is read in CUPTI's resource callbacks, which come inside driver calls: nothing here takes the GIL or calls CUDA.
 * A reading takes 3 to 5 us; none is taken in a steady state.
 */
#include <sys/types.h>

#include "driver.h"

#define BASELINE 1 /* the flag of a measurement whose change belongs to nobody */

enum { DOMAIN_RESOURCE = 3 };

struct resource_data { /* CUpti_ResourceData */
    void *context;
};

/* CUPTI's numbers of the resource events that are followed. Not 8, "module profiled": a callback for it makes CUPTI
 * instrument every kernel launch, which then takes twice as long. */
enum {
    CONTEXT_CREATED = 1,
    CONTEXT_DESTROY_STARTING = 2,
    STREAM_CREATED = 3,
    STREAM_DESTROY_STARTING = 4,
    INIT_FINISHED = 5,
    MODULE_LOADED = 6,
    MODULE_UNLOAD_STARTING = 7,
    GRAPH_CREATE_STARTING = 17,
    GRAPH_CREATED = 18,
    GRAPH_DESTROY_STARTING = 19,
};

/* Whose memory has changed when the event comes; whose is about to be given back after it. */
static const struct event {
    const char *taken, *given_back;
} events[] = {
    [CONTEXT_CREATED] = {.taken = "context"},
    [CONTEXT_DESTROY_STARTING] = {.given_back = "context"},
    [STREAM_CREATED] = {.taken = "streams"},
    [STREAM_DESTROY_STARTING] = {.given_back = "streams"},
    [INIT_FINISHED] = {.taken = "context"},
    [MODULE_LOADED] = {.taken = "modules"}, /* also those that a launch loads lazily */
    [MODULE_UNLOAD_STARTING] = {.given_back = "modules"},
    [GRAPH_CREATE_STARTING] = {NULL, NULL},
    [GRAPH_CREATED] = {.taken = "graphs"},
    [GRAPH_DESTROY_STARTING] = {.given_back = "graphs"},
};

static _Atomic uint64_t last_used[WB_MOST_DEVICES];
static _Atomic(const char *) giving_back[WB_MOST_DEVICES]; /* no event tells when that has ended: the next reading does */

/* The change since the device's last measurement belongs to `owner`; to nobody if that is null. */
static void measure(uint32_t device, const char *owner)
{
    struct wb_memory_info memory;
    if (wb_driver.memory_of(wb_driver.devices[device], &memory) != 0)
        return;
    const char *before = atomic_exchange(&giving_back[device], NULL);
    if (atomic_exchange(&last_used[device], memory.used) == memory.used)
        return;
    owner = owner ? owner : before;
    struct wb_record record = {
        .time_ns = wb_now(),
        .bytes = memory.used,
        .asked = memory.used,
        .owner = owner ? wb_name(owner) : 0,
        .device = (int16_t)device,
        .layer = WB_DRIVER,
        .tier = WB_GPU,
        .flags = owner ? 0 : BASELINE,
        .kind = WB_MEASURE,
    };
    wb_write(&record);
}

static void follow(uint32_t device, const struct event *event)
{
    measure(device, event->taken);
    if (event->given_back)
        atomic_store(&giving_back[device], event->given_back);
}

WB_PUBLIC void wb_on_callback(void *userdata, int domain, uint32_t id, const void *data)
{
    (void)userdata;
    if (domain != DOMAIN_RESOURCE || id >= WB_COUNT(events))
        return;
    const struct resource_data *resource = data;
    uint32_t device;
    if (id != INIT_FINISHED && wb_driver.device_of(resource->context, &device) == 0) {
        if (device < wb_driver.device_count)
            follow(device, &events[id]);
        return;
    }
    for (device = 0; device < wb_driver.device_count; device++) /* no context to tell the device by */
        follow(device, &events[id]);
}

/* A device whose memory was about to be given back is read again. */
void wb_measure_given_back(void)
{
    for (uint32_t device = 0; device < wb_driver.device_count; device++)
        if (atomic_load(&giving_back[device]))
            measure(device, NULL);
}

/* Have the subscriber called for the events above; 0, or CUPTI's first error. */
WB_PUBLIC int wb_driver_watch(void *subscriber)
{
    int error = 0;
    for (uint32_t id = CONTEXT_CREATED; id < WB_COUNT(events) && !error; id++)
        if (id <= MODULE_UNLOAD_STARTING || id >= GRAPH_CREATE_STARTING)
            error = wb_driver.enable(1, subscriber, DOMAIN_RESOURCE, id);
    for (uint32_t device = 0; device < wb_driver.device_count; device++)
        measure(device, NULL);
    return error;
}
