// Rows times a matrix, in bfloat16, by the processor's products of pairs (AVX512-BF16): y = x matrix^T (+ plus), summed
// in float.
//
// The matrix is brought into the order in which it is read, once: 32 outputs beside each other, of each a pair of
// numbers, then the next pair. So it streams from memory, every sum has a lane of its own, and a pair of x serves all
// lanes. Outputs beyond the last one are zeros.
#include "numbers.h"

#if defined(__x86_64__) && __GNUC__ >= 12
#include <immintrin.h>
#include <omp.h>

#define WITH_PAIRS __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16")))
#define PAIRS_INLINED WITH_PAIRS INLINED

enum {
    LANES = 16,
    OUTPUTS = 2 * LANES,
    MOST_ROWS = 14,  // whose sums, two registers each, stay in registers
    AHEAD = 16,      // pairs: what is read then is asked for now
};

struct paired {
    const uint16_t *x, *plus;  // [rows, size], [rows, outputs] or none
    const uint32_t *matrix;    // [outputs / 32, size / 2, 32] pairs
    uint16_t *y;               // [rows, outputs]
    int64_t size, outputs;
};

PAIRS_INLINED void put_lanes(__m512 sums, int64_t row, int64_t output, const struct paired *p) {
    if (output >= p->outputs) return;
    int64_t place = row * p->outputs + output, left = p->outputs - output;
    __mmask16 there = left < LANES ? (__mmask16)((1u << left) - 1) : 0xffff;
    if (p->plus) {
        __m512i plus = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(there, p->plus + place));
        sums = _mm512_add_ps(sums, _mm512_castsi512_ps(_mm512_slli_epi32(plus, 16)));
    }
    _mm256_mask_storeu_epi16(p->y + place, there, (__m256i)_mm512_cvtneps_pbh(sums));
}

// Multiplies 32 rows of the matrix with so many of x; the compiler knows how many.
PAIRS_INLINED void multiply_pairs(int64_t block, int64_t first, int rows, const struct paired *p) {
    int64_t pairs = p->size / 2;
    const uint32_t *matrix = p->matrix + block * pairs * OUTPUTS;
    const uint16_t *x = p->x + first * p->size;
    __m512 sums[MOST_ROWS][2];
    for (int i = 0; i < rows; i++) sums[i][0] = sums[i][1] = _mm512_setzero_ps();
    for (int64_t pair = 0; pair < pairs; pair++, matrix += OUTPUTS) {
        __builtin_prefetch(matrix + AHEAD * OUTPUTS);
        __builtin_prefetch(matrix + AHEAD * OUTPUTS + LANES);
        __m512bh some = (__m512bh)_mm512_loadu_si512(matrix), others = (__m512bh)_mm512_loadu_si512(matrix + LANES);
#pragma GCC unroll 14
        for (int i = 0; i < rows; i++) {
            int both;
            memcpy(&both, x + i * p->size + 2 * pair, sizeof both);
            __m512bh given = (__m512bh)_mm512_set1_epi32(both);
            sums[i][0] = _mm512_dpbf16_ps(sums[i][0], some, given);
            sums[i][1] = _mm512_dpbf16_ps(sums[i][1], others, given);
        }
    }
#pragma GCC unroll 14
    for (int i = 0; i < rows; i++) {
        put_lanes(sums[i][0], first + i, block * OUTPUTS, p);
        put_lanes(sums[i][1], first + i, block * OUTPUTS + LANES, p);
    }
}

#define ROWS(count) \
    case count: multiply_pairs(block, first, count, p); break;
WITH_PAIRS static void multiply_rows(int64_t block, int64_t first, int64_t rows, const struct paired *p) {
    switch (rows) {
        ROWS(1) ROWS(2) ROWS(3) ROWS(4) ROWS(5) ROWS(6) ROWS(7)
        ROWS(8) ROWS(9) ROWS(10) ROWS(11) ROWS(12) ROWS(13) ROWS(14)
    }
}

static int64_t blocks_of(int64_t outputs) { return (outputs + OUTPUTS - 1) / OUTPUTS; }

// Whether there are such products.
int wb_cpu_has_pairs(void) {
    return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl");
}

// Brings a matrix [outputs, size] into the order in which it is read, with as many outputs as whole blocks have; size is
// even.
void wb_cpu_pair(const void *matrix, void *paired, int64_t size, int64_t outputs) {
    int64_t pairs = size / 2;
#pragma omp parallel for if (outputs * size > TOO_LITTLE)
    for (int64_t block = 0; block < blocks_of(outputs); block++) {
        uint32_t *to = (uint32_t *)paired + block * pairs * OUTPUTS;
        for (int64_t pair = 0; pair < pairs; pair++)
            for (int64_t output = block * OUTPUTS; output < (block + 1) * OUTPUTS; output++, to++) {
                *to = 0;
                if (output < outputs) memcpy(to, (const uint16_t *)matrix + output * size + 2 * pair, sizeof *to);
            }
    }
}

// x [rows, size], a matrix [outputs, size] in that order, plus (or none) and y [rows, outputs]; at least a row. Gives 1:
// whoever calls it asks whether there was memory, which the one by tiles may not have, and this one needs none.
int wb_cpu_linear_pairs(const void *x, const void *matrix, const void *plus, void *y, int64_t rows, int64_t size,
                        int64_t outputs) {
    struct paired paired = {.x = x, .plus = plus, .matrix = matrix, .y = y, .size = size, .outputs = outputs};
    int64_t blocks = blocks_of(outputs), groups = (rows + MOST_ROWS - 1) / MOST_ROWS;
#pragma omp parallel if (outputs * size > TOO_LITTLE)
    {
        int64_t thread = omp_get_thread_num(), threads = omp_get_num_threads();
        for (int64_t block = blocks * thread / threads; block < blocks * (thread + 1) / threads; block++)
            for (int64_t group = 0; group < groups; group++) {
                int64_t first = rows * group / groups;
                multiply_rows(block, first, rows * (group + 1) / groups - first, &paired);
            }
    }
    return 1;
}

#else
int wb_cpu_has_pairs(void) { return 0; }
#endif
