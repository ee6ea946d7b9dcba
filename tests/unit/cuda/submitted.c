// What copies need of a CUDA driver, for tests: it does nothing, writes down what it was asked, and fails when told to.
#include <stddef.h>
#include <stdint.h>

struct call {
    int64_t what; // 1: wait, 2: record, 3: copy to the device, 4: copy to the host
    uint64_t a, b, c, stream;
};

struct call test_calls[16];
int64_t test_called, test_fails_at = -1, test_status;

static int called(int64_t what, uint64_t a, uint64_t b, uint64_t c, uint64_t stream) {
    int64_t number = test_called++;
    test_calls[number % 16] = (struct call){what, a, b, c, stream};
    return number == test_fails_at ? (int)test_status : 0;
}

int cuStreamWaitEvent(uint64_t stream, uint64_t event, unsigned flags) { return called(1, event, flags, 0, stream); }
int cuEventRecord(uint64_t event, uint64_t stream) { return called(2, event, 0, 0, stream); }
int cuMemcpyHtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, uint64_t stream) {
    return called(3, to, from, bytes, stream);
}
int cuMemcpyDtoHAsync_v2(uint64_t to, uint64_t from, size_t bytes, uint64_t stream) {
    return called(4, to, from, bytes, stream);
}
