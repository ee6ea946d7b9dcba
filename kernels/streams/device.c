// The CUDA driver as a device. Nothing of CUDA is needed to build it.
#include "device.h"

#include <dlfcn.h>
#include <string.h>

// Data of this library and not of a caller: where a recorder that starts late finds and redirects it.
static struct wb_device cuda;

static const char *const names[] = {
    "cuStreamCreate",  "cuStreamDestroy_v2", "cuStreamSynchronize",  "cuStreamWaitEvent",    "cuEventCreate",
    "cuEventDestroy_v2", "cuEventRecord",    "cuEventQuery",         "cuEventElapsedTime",   "cuMemcpyHtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2", "cuCtxPushCurrent_v2", "cuCtxPopCurrent_v2",
};
_Static_assert(sizeof names / sizeof *names == ITS_FUNCTIONS, "in the order of struct wb_device");

WB_PUBLIC const struct wb_device *wb_device_open(const char *driver, int *status) {
    void *library = dlopen(driver, RTLD_LAZY), *found[ITS_FUNCTIONS];
    *status = library ? SUCCESS : SHARED_OBJECT_INIT_FAILED;
    for (size_t i = 0; i < ITS_FUNCTIONS && !*status; i++) {
        found[i] = dlsym(library, names[i]);
        *status = found[i] ? SUCCESS : NOT_FOUND;
    }
    if (*status) return NULL;
    memcpy(&cuda, found, sizeof cuda);
    return &cuda;
}
