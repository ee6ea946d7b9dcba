// The gate of the feed-forward part: silu(gate) * up.
#include "numbers.h"

INLINED void gate_row(const void *gate, const void *up, void *out, int64_t size, int kind) {
    for (int64_t i = 0; i < size; i++) {
        float x = get(gate, i, kind);
        put(out, i, x / (1.0f + exponential(-x)) * get(up, i, kind), kind);
    }
}

FOR_EVERY_PROCESSOR static void gate_float32(const void *gate, const void *up, void *out, int64_t size) {
    gate_row(gate, up, out, size, FLOAT32);
}

FOR_EVERY_PROCESSOR static void gate_bfloat16(const void *gate, const void *up, void *out, int64_t size) {
    gate_row(gate, up, out, size, BFLOAT16);
}

// gate_up [rows, 2 * size], out [rows, size]
void wb_cpu_gate(const void *gate_up, void *out, int64_t rows, int64_t size, int kind) {
#pragma omp parallel for if (rows > 1 && rows * size > TOO_LITTLE)
    for (int64_t row = 0; row < rows; row++) {
        const void *gate = at(gate_up, row * 2 * size, kind), *up = at(gate, size, kind);
        (kind == FLOAT32 ? gate_float32 : gate_bfloat16)(gate, up, (void *)at(out, row * size, kind), size);
    }
}
