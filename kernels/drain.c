/* The reading half of the spool, for the scribe. See spool.h. */
#include <string.h>

#include "recorder.h"

WB_PUBLIC size_t wb_drain(struct wb_ring *ring, struct wb_record *out, size_t most, int skip) {
    struct wb_record *records = (struct wb_record *)(ring + 1);
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
    size_t taken = 0;
    for (; tail != head && taken < most; tail++) {
        struct wb_record *record = &records[tail % WB_RING_RECORDS];
        if (!atomic_load_explicit(&record->kind, memory_order_acquire)) {
            if (!skip) break;
            atomic_fetch_add(&ring->lost, 1);
            continue;
        }
        memcpy(&out[taken++], record, sizeof *record);
        atomic_store_explicit(&record->kind, 0, memory_order_relaxed);
    }
    atomic_store_explicit(&ring->tail, tail, memory_order_release);
    return taken;
}
