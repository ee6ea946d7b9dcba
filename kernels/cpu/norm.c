// RMS norm of every row.
#include <math.h>

#include "numbers.h"

INLINED void norm_row(const void *x, const void *weight, void *out, int64_t size, float eps, int kind) {
    float squares = 0;
    for (int64_t i = 0; i < size; i++) squares += get(x, i, kind) * get(x, i, kind);
    float scale = 1.0f / sqrtf(squares / (float)size + eps);
    for (int64_t i = 0; i < size; i++) put(out, i, get(x, i, kind) * scale * get(weight, i, kind), kind);
}

FOR_EVERY_PROCESSOR static void norm_float32(const void *x, const void *weight, void *out, int64_t size, float eps) {
    norm_row(x, weight, out, size, eps, FLOAT32);
}

FOR_EVERY_PROCESSOR static void norm_bfloat16(const void *x, const void *weight, void *out, int64_t size, float eps) {
    norm_row(x, weight, out, size, eps, BFLOAT16);
}

// x and out [rows, size], weight [size]
void wb_cpu_norm(const void *x, const void *weight, void *out, int64_t rows, int64_t size, float eps, int kind) {
#pragma omp parallel for if (rows > 1 && rows * size > TOO_LITTLE)
    for (int64_t row = 0; row < rows; row++) {
        const void *from = at(x, row * size, kind);
        void *to = (void *)at(out, row * size, kind);
        (kind == FLOAT32 ? norm_float32 : norm_bfloat16)(from, weight, to, size, eps);
    }
}
