// A CUDA driver for tests: no GPU, memory is a number. Built as libcuda.so.1, and again as libnvidia-ml.so.1.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MIB ((size_t)1 << 20)
typedef uint64_t ptr;

size_t test_used = 3 << 20;
static ptr next = 0x700000000000;
static void *launched[16];
static int has_context, is_capturing, fails;
static void (*on_free)(void);
static ptr in_context[64]; // that it takes with it
static int held, gone;     // of these, up to now and with former contexts

static int in(int status, const ptr *address) { return status ? status : (in_context[held++ % 64] = *address, 0); }

// What gives memory back. It has, when another thread can be first.
static int gives(int status) {
    void (*call)(void) = on_free;
    on_free = NULL;
    if (call && !fails) call();
    return fails ? 700 : status;
}

static int took(ptr *address, size_t bytes) {
    if (bytes > (size_t)1 << 40) return 2;
    *address = next;
    next += (bytes + 2 * MIB - 1) / (2 * MIB) * 2 * MIB;
    test_used += (bytes + 2 * MIB - 1) / (2 * MIB) * 2 * MIB;
    return 0;
}

static int first(void *thing, size_t bytes) {
    for (int i = 0; i < 16; i++) {
        if (launched[i] == thing) return 0;
        if (launched[i]) continue;
        launched[i] = thing;
        test_used += bytes;
        return 0;
    }
    return 1;
}

int cuInit(unsigned flags) { return (int)flags; }
int cuDeviceGetCount(int *count) { return *count = 1, 0; }
int cuDeviceGetUuid_v2(unsigned char id[16], int device) { return memset(id, 0xab + device, 16), 0; }
int cuCtxGetDevice(int *device) { return *device = 0, has_context ? 0 : 201; }
int cuDevicePrimaryCtxRetain(void **made, int device) {
    test_used += has_context ? 0 : 500 * MIB;
    has_context = 1;
    return *made = &has_context, device;
}
int cuDevicePrimaryCtxReset_v2(int device) { return gone = held, has_context = 0, device; }
int cuMemAlloc_v2(ptr *address, size_t bytes) { return in(took(address, bytes), address); }
int cuMemFree_v2(ptr address) { return gives(!address); }
int cuMemAllocAsync(ptr *address, size_t bytes, void *stream) { return (void)stream, took(address, bytes); }
int cuMemFreeAsync(ptr address, void *stream) { return (void)stream, gives(!address); }
int cuMemHostAlloc(void **address, size_t bytes, unsigned flags) {
    return in(took((ptr *)address, bytes) | (int)flags, (ptr *)address);
}
int cuMemFreeHost(void *address) { return gives(!address); }
int cuMemHostRegister_v2(void *address, size_t bytes, unsigned flags) {
    return in(!address | !bytes | (int)flags, (ptr *)&address);
}
int cuMemHostUnregister(void *address) { return gives(!address); }
int cuMemCreate(ptr *made, size_t bytes, const int *property, unsigned long long flags) {
    return (void)property, took(made, bytes) | (int)flags;
}
int cuMemMap(ptr address, size_t bytes, size_t offset, ptr of, unsigned long long flags) {
    return (int)(!address | !bytes | offset | !of | flags);
}
int cuMemUnmap(ptr address, size_t bytes) { return gives(!address | !bytes); }
int cuMemRelease(ptr of) { return gives(!of); }
int cuMemExportToShareableHandle(void *made, ptr of, int kind, unsigned long long flags) {
    return *(ptr *)made = of, kind | (int)flags;
}
int cuMemImportFromShareableHandle(ptr *made, void *from, int kind) { return *made = (ptr)from, kind; }
int cuMemGetAllocationPropertiesFromHandle(int *property, ptr of) {
    return memcpy(property, (int[]){1, 0, 1, 0}, 16), !of;
}
int cuMemRetainAllocationHandle(ptr *made, void *address) { return *made = (ptr)address - 0x1000, 0; }
int cuStreamCreate(void **made, unsigned flags) { return test_used += 2 * MIB, *made = &next, flags > 1; }
int cuStreamSynchronize(void *stream) { return !stream; }
int cuStreamDestroy_v2(void *stream) { return test_used -= 2 * MIB, !stream; }
int cuStreamIsCapturing(void *stream, int *status) { return (void)stream, *status = is_capturing, 0; }
int cuLaunchKernel(void *kernel, unsigned a, unsigned b, unsigned c, unsigned d, unsigned e, unsigned f, unsigned g,
                   void *stream, void **arguments, void **extra) {
    (void)stream, (void)arguments, (void)extra;
    return first(kernel, 4 * MIB) | (a + b + c + d + e + f + g != 7);
}
int cuGraphInstantiateWithFlags(void **made, void *graph, unsigned long long flags) {
    return test_used += MIB, *made = graph, (int)flags;
}
int cuGraphLaunch(void *graph, void *stream) { return (void)stream, first(graph, 3 * MIB); }
int cuGraphExecDestroy(void *graph) { return !graph; }
int cuMemcpyHtoDAsync_v2(ptr to, const void *from, size_t bytes, void *stream) {
    return (void)stream, !to | !from | !bytes;
}
int cuMemcpyDtoHAsync_v2(void *to, ptr from, size_t bytes, void *stream) { return (void)stream, !to | !from | !bytes; }
int cuEventCreate(void **made, unsigned flags) { return *made = &next, (int)flags; }
int cuEventDestroy_v2(void *event) { return !event; }
int cuEventQuery(void *event) { return !event; }
int cuEventElapsedTime(float *elapsed, void *from, void *to) { return *elapsed = 0, !from | !to; }
int cuCtxPushCurrent_v2(void *context) { return (void)context, 0; }
int cuCtxPopCurrent_v2(void **popped) { return *popped = NULL, 0; }
int cuEventRecord(void *event, void *stream) { return !event | !stream; }
int cuStreamWaitEvent(void *stream, void *event, unsigned flags) { return !event | !stream | (int)flags; }
int cuPointerGetAttribute(unsigned *value, int attribute, ptr pointer) {
    for (int i = 0; i < gone; i++)
        if (in_context[i % 64] == pointer) return 1;
    return *value = pointer >= 0x700000000000 ? 2 : 1, attribute != 2;
}
int cuMemcpyAsync(ptr to, ptr from, size_t bytes, void *stream) { return (void)stream, !to | !from | !bytes; }
int cuMemcpy(ptr to, ptr from, size_t bytes) { return !to | !from | !bytes; }
int cuMemcpyDtoH_v2(void *to, ptr from, size_t bytes) { return !to | !from | !bytes; }
int cuMemcpyPeerAsync(ptr to, void *a, ptr from, void *b, size_t bytes, void *stream) {
    return (void)a, (void)b, (void)stream, !to | !from | !bytes;
}
int cuMemcpyPeer(ptr to, void *a, ptr from, void *b, size_t bytes) { return (void)a, (void)b, !to | !from | !bytes; }
int cuMemcpy2D_v2(const size_t *rows) { return !rows; }
int cuMemcpy2DUnaligned_v2(const size_t *rows) { return !rows; }
int cuMemcpy2DAsync_v2(const size_t *rows, void *stream) { return (void)stream, !rows; }
int cuMemcpy3D_v2(const size_t *box) { return !box; }
int cuMemcpy3DAsync_v2(const size_t *box, void *stream) { return (void)stream, !box; }
int cuMemcpy3DPeer(const size_t *box) { return !box; }
int cuMemcpy3DPeerAsync(const size_t *box, void *stream) { return (void)stream, !box; }
int cuMemcpyBatchAsync_v2(ptr *to, ptr *from, size_t *bytes, size_t count, void *attributes, size_t *of, size_t number,
                          void *stream) {
    return (void)to, (void)from, (void)bytes, (void)attributes, (void)of, (void)stream, count != number;
}

void test_capture(int on) { is_capturing = on; }
void test_fail(int on) { fails = on; }
void test_on_free(void (*call)(void)) { on_free = call; } // once
void test_next(ptr address) { next = address; }

int cuGetProcAddress_v2(const char *symbol, void **function, int version, uint64_t flags, int *status) {
    static const char *const versioned[] = {"cuMemAlloc", "cuMemFree", "cuMemHostRegister", "cuMemcpyHtoDAsync"};
    char name[64];
    strcpy(name, symbol);
    for (size_t i = 0; i < sizeof versioned / sizeof *versioned; i++)
        if (strcmp(symbol, versioned[i]) == 0) strcat(name, "_v2");
    (void)version, (void)flags;
    *function = dlsym(dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD), name);
    if (status) *status = !*function;
    return *function ? 0 : 500;
}

// --- NVML ---------------------------------------------------------------------------------------------------------

struct memory_info {
    uint64_t total, free, used;
};
int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetHandleByUUID(const char *id, void **device) {
    *device = &next;
    return strcmp(id, "GPU-abababab-abab-abab-abab-abababababab") != 0;
}
int nvmlDeviceGetIndex(void *device, unsigned *index) {
    const char *first = getenv("CUDA_VISIBLE_DEVICES"); // one device, or all
    return *index = first ? (unsigned)atoi(first) : 0, !device;
}
int nvmlDeviceGetMemoryInfo(void *device, struct memory_info *out) {
    size_t *used = dlsym(dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD), "test_used");
    *out = (struct memory_info){.total = (size_t)141 << 30, .used = *used};
    return !device;
}
