// A copy, what it waits for and its events, handed on to the CUDA driver in one call: who submits pays for one way
// there and back, not for five. Nothing of CUDA is needed to build it; kernels/submission.py mirrors the structure.
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

enum { SUCCESS = 0, SHARED_OBJECT_INIT_FAILED = 303, NOT_FOUND = 500, HOST_TO_DEVICE = 1 }; // CUresult; a direction

struct submission {
    uint64_t submitted_ns, call_ns; // what the last call gave
    void *stream, *begin, *end;     // no begin: it begins when the one before it on its stream ends
    uint64_t to, from, bytes, direction;
    uint64_t waits;
    void *awaited[]; // so many events
};

// Data of this library and not of a thread or a caller: where a recorder that starts late finds and redirects them.
static int (*wait_event)(void *stream, void *event, unsigned flags);
static int (*record_event)(void *event, void *stream);
static int (*copy_to_device)(uint64_t to, const void *from, size_t bytes, void *stream);
static int (*copy_to_host)(void *to, uint64_t from, size_t bytes, void *stream);

// The driver's functions are looked up in it. Returns what cuGetProcAddress would.
int wb_submission_open(const char *driver) {
    void *library = dlopen(driver, RTLD_LAZY);
    if (!library) return SHARED_OBJECT_INIT_FAILED;
    *(void **)&wait_event = dlsym(library, "cuStreamWaitEvent");
    *(void **)&record_event = dlsym(library, "cuEventRecord");
    *(void **)&copy_to_device = dlsym(library, "cuMemcpyHtoDAsync_v2");
    *(void **)&copy_to_host = dlsym(library, "cuMemcpyDtoHAsync_v2");
    return wait_event && record_event && copy_to_device && copy_to_host ? SUCCESS : NOT_FOUND;
}

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static int copy(const struct submission *this) {
    if (this->direction == HOST_TO_DEVICE)
        return copy_to_device(this->to, (const void *)this->from, this->bytes, this->stream);
    return copy_to_host((void *)this->to, this->from, this->bytes, this->stream);
}

static int hand_on(const struct submission *this) {
    int status = SUCCESS;
    for (uint64_t i = 0; i < this->waits && !status; i++) status = wait_event(this->stream, this->awaited[i], 0);
    if (!status && this->begin) status = record_event(this->begin, this->stream);
    if (!status) status = copy(this);
    return status ? status : record_event(this->end, this->stream);
}

// Returns the first CUresult that is no success; after it nothing more was handed on.
int wb_submit(struct submission *this) {
    this->submitted_ns = now();
    int status = hand_on(this);
    this->call_ns = now() - this->submitted_ns;
    return status;
}
