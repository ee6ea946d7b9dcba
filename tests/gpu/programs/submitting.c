// What each part of handing a copy on to the CUDA driver takes, and ways to take less: for submitting.py beside it.
// The driver is asked through the functions that the product's own native part has looked up.
#include <pthread.h>
#include <stdatomic.h>

#include "../../../kernels/streams/submit.c"

enum { WAIT = 1, BEGIN = 2, COPY = 4, END = 8, FETCH = 16, FETCH_NEXT = 32, ANYWHERE = 64, BATCH = 128 };
enum { LINE = 64, PAGE = 4096, RING = 4096 };

struct call {
    void *stream, *awaited, *begin, *end;
    uint64_t to, from, bytes, direction;
    uint64_t ns[5]; // waiting, begin, copy, end, and all
};

struct attributes { // CUmemcpyAttributes: in the order of the stream, no hints
    int order, hints[4];
    unsigned flags;
};

static int (*copy_anywhere)(uint64_t to, uint64_t from, size_t bytes, void *stream);
static int (*copy_batch)(uint64_t *to, uint64_t *from, size_t *bytes, size_t count, struct attributes *attributes,
                         size_t *attribute_of, size_t attributes_count, void *stream);
static int (*set_context)(void *context);

int probe_open(const char *driver) {
    int status = wb_submission_open(driver);
    if (status) return status;
    void *library = dlopen(driver, RTLD_LAZY);
    *(void **)&copy_anywhere = dlsym(library, "cuMemcpyAsync");
    *(void **)&copy_batch = dlsym(library, "cuMemcpyBatchAsync_v2");
    *(void **)&set_context = dlsym(library, "cuCtxSetCurrent");
    return copy_anywhere && set_context ? SUCCESS : NOT_FOUND;
}

static int copied(const struct call *call, unsigned parts) {
    if (parts & ANYWHERE) return copy_anywhere(call->to, call->from, call->bytes, call->stream);
    if (parts & BATCH && !copy_batch) return NOT_FOUND;
    if (parts & BATCH) {
        uint64_t to = call->to, from = call->from;
        size_t bytes = call->bytes, first = 0;
        struct attributes in_order = {.order = 1};
        return copy_batch(&to, &from, &bytes, 1, &in_order, &first, 1, call->stream);
    }
    if (call->direction == HOST_TO_DEVICE)
        return copy_to_device(call->to, (const void *)call->from, call->bytes, call->stream);
    return copy_to_host((void *)call->to, call->from, call->bytes, call->stream);
}

static void fetch(const struct call *call) {
    for (int at = 0; at < 16 * LINE; at += LINE) __builtin_prefetch((char *)call->stream + at);
    for (int at = 0; at < 4 * LINE; at += LINE) {
        __builtin_prefetch((char *)call->begin + at);
        __builtin_prefetch((char *)call->end + at);
    }
}

static int handed_on(struct call *call, const struct call *next, unsigned parts) {
    int status = SUCCESS;
    uint64_t start = now(), at[5] = {start, start, start, start, start};
    if (parts & FETCH) fetch(call);
    if (parts & FETCH_NEXT && next) fetch(next);
    if (parts & WAIT) status = wait_event(call->stream, call->awaited, 0);
    at[1] = now();
    if (!status && parts & BEGIN) status = record_event(call->begin, call->stream);
    at[2] = now();
    if (!status && parts & COPY) status = copied(call, parts);
    at[3] = now();
    if (!status && parts & END) status = record_event(call->end, call->stream);
    at[4] = now();
    for (int part = 0; part < 4; part++) call->ns[part] = at[part + 1] - at[part];
    call->ns[4] = at[4] - start;
    return status;
}

// Hands so many on, one after the other; gives the first CUresult that is no success.
int probe_hand_on(struct call *calls, uint64_t count, unsigned parts) {
    for (uint64_t i = 0; i < count; i++) {
        int status = handed_on(&calls[i], i + 1 < count ? &calls[i + 1] : NULL, parts);
        if (status) return status;
    }
    return SUCCESS;
}

// What a core's caches and its table of pages then hold is this, and nothing else.
uint64_t probe_cool(const char *memory, uint64_t bytes) {
    uint64_t sum = 0;
    for (uint64_t at = 0; at < bytes; at += LINE) sum += (uint64_t)memory[at];
    return sum;
}

uint64_t probe_clock(uint64_t times) {
    uint64_t start = now();
    for (uint64_t i = 1; i < times; i++) now();
    return now() - start;
}

// --- a thread that hands on, while who submits goes on

enum { APART_NS = 3000 }; // as far as Python's submissions are

static struct given {
    struct call *call;
    uint64_t at_ns, *until_on_ns;
} ring[RING];
static _Atomic uint64_t put, taken;
static _Atomic int ends, sleeps, failed;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more = PTHREAD_COND_INITIALIZER;
static pthread_t thread;
static int may_sleep;
static unsigned thread_parts;

static void wait_for_more(void) {
    if (!may_sleep) return;
    pthread_mutex_lock(&mutex);
    atomic_store(&sleeps, 1);
    while (atomic_load(&put) == atomic_load(&taken) && !atomic_load(&ends)) pthread_cond_wait(&more, &mutex);
    atomic_store(&sleeps, 0);
    pthread_mutex_unlock(&mutex);
}

static void wake(void) {
    pthread_mutex_lock(&mutex);
    pthread_cond_signal(&more);
    pthread_mutex_unlock(&mutex);
}

static void *hands_on(void *context) {
    if (set_context(context)) atomic_store(&failed, 1);
    while (!atomic_load(&ends)) {
        uint64_t number = atomic_load(&taken);
        if (number == atomic_load(&put)) {
            wait_for_more();
            continue;
        }
        struct given *given = &ring[number % RING];
        if (handed_on(given->call, NULL, thread_parts)) atomic_store(&failed, 1);
        *given->until_on_ns = now() - given->at_ns;
        atomic_store(&taken, number + 1);
    }
    return NULL;
}

int probe_thread_begin(void *context, int is_to_sleep, unsigned parts) {
    atomic_store(&ends, 0);
    may_sleep = is_to_sleep, thread_parts = parts;
    return pthread_create(&thread, NULL, hands_on, context);
}

// Gives whether anything failed.
int probe_thread_end(void) {
    atomic_store(&ends, 1);
    wake();
    pthread_join(thread, NULL);
    return atomic_exchange(&failed, 0);
}

// Has the thread hand so many on, which the ring must have room for; what each took who submits, and until it was on.
void probe_hand_over(struct call *calls, uint64_t count, uint64_t *took_ns, uint64_t *until_on_ns) {
    for (uint64_t i = 0; i < count; i++) {
        uint64_t start = now(), number = atomic_load(&put);
        ring[number % RING] = (struct given){&calls[i], start, &until_on_ns[i]};
        atomic_store(&put, number + 1);
        if (atomic_load(&sleeps)) wake();
        took_ns[i] = now() - start;
        while (now() - start < APART_NS) {}
    }
    while (atomic_load(&taken) < atomic_load(&put)) {}
}
