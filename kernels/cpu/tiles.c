// Rows times a matrix, in bfloat16, by the processor's tiles (AMX): y = x matrix^T (+ plus), summed in float.
//
// With few rows the time goes into reading the matrix: it is read once and as it lies, 16 of its rows to a tile, and
// what is brought into the order of tiles is x. Nothing is padded: a block that would go beyond the last output, row or
// number is moved back over the one before it, and finds the same there once more. Numbers of a row that were counted
// before meet zeros in x, so that only an infinite one of the matrix would show.
#include "numbers.h"

#if defined(__x86_64__) && __GNUC__ >= 12
#include <immintrin.h>
#include <omp.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WITH_TILES __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw,avx512vl,avx512bf16")))
#define TILES_INLINED WITH_TILES INLINED
// The compiler does not know what tiles read.
#define WRITTEN(from) __asm__ volatile("" : : "r"(from) : "memory")

enum {
    SIDE = 16,           // rows of a tile, and floats in one
    DEPTH = 32,          // numbers of a row that one step multiplies
    OUTPUTS = 2 * SIDE,  // rows of the matrix that are read beside each other
    AHEAD = 4,           // steps
};

struct product {
    const uint16_t *x, *matrix, *plus;  // [rows, size], [outputs, size], [rows, outputs] or none
    uint16_t *y;                        // [rows, outputs]
    int64_t rows, size, outputs;
    int64_t width, groups, steps;  // rows of x in a tile, such groups of rows, steps along a row
};

INLINED int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
INLINED int64_t row_of(int64_t group, const struct product *p) { return least(group * SIDE, p->rows - p->width); }
INLINED int64_t number_of(int64_t step, const struct product *p) { return least(step * DEPTH, p->size - DEPTH); }

// Makes columns of rows: swaps single numbers across the diagonal, then blocks of 2, 4 and 8.
TILES_INLINED void transpose(__m512i rows[SIDE]) {
    const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
#pragma GCC unroll 4
    for (int size = 1; size < SIDE; size *= 2) {
        __mmask16 is_second = _mm512_test_epi32_mask(lane, _mm512_set1_epi32(size));
        __m512i upper = _mm512_mask_add_epi32(lane, is_second, lane, _mm512_set1_epi32(SIDE - size));
        __m512i lower = _mm512_add_epi32(upper, _mm512_set1_epi32(size));
#pragma GCC unroll 16
        for (int i = 0; i < SIDE; i++) {
            if (i & size) continue;
            __m512i above = rows[i], below = rows[i + size];
            rows[i] = _mm512_permutex2var_epi32(above, upper, below);
            rows[i + size] = _mm512_permutex2var_epi32(above, lower, below);
        }
    }
}

// Packs a step of a group of rows for a tile: [16, width] pairs of numbers.
TILES_INLINED void pack(int64_t group, int64_t step, uint32_t *packed, const struct product *p) {
    const uint16_t *from = p->x + row_of(group, p) * p->size + number_of(step, p);
    __mmask32 is_new = 0xffffffff << (step * DEPTH - number_of(step, p));  // nothing is counted twice
    __m512i pairs[SIDE];
    for (int64_t i = 0; i < SIDE; i++)
        pairs[i] = i < p->width ? _mm512_maskz_loadu_epi16(is_new, from + i * p->size) : _mm512_setzero_si512();
    transpose(pairs);
    for (int64_t i = 0; i < SIDE; i++, packed += p->width)
        _mm512_mask_storeu_epi32(packed, (1u << p->width) - 1, pairs[i]);
}

// Tiles 0 to 3 are sums, 4 and 5 of the matrix, 6 and 7 of x.
TILES_INLINED void configure(int64_t width) {
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } tiles = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        tiles.rows[i] = SIDE;
        tiles.row_bytes[i] = (uint16_t)(i == 4 || i == 5 ? 2 * DEPTH : 4 * width);
    }
    WRITTEN(&tiles);
    _tile_loadconfig(&tiles);
}

// Asks for a step's numbers before they are needed: so many rows at once no processor follows by itself.
TILES_INLINED void fetch(const uint16_t *from, int64_t size) {
    for (int64_t i = 0; i < OUTPUTS; i++) __builtin_prefetch(from + i * size);
}

// sums [16 outputs, width]
TILES_INLINED void put_sums(const float *sums, int64_t group, int64_t output, const struct product *p) {
    __m512i rows[SIDE];
    for (int64_t i = 0; i < SIDE; i++) rows[i] = _mm512_loadu_si512(sums + i * p->width);
    transpose(rows);
    for (int64_t i = 0; i < p->width; i++) {
        int64_t place = (row_of(group, p) + i) * p->outputs + output;
        __m512 row = _mm512_castsi512_ps(rows[i]);
        if (p->plus) {
            __m512i plus = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(p->plus + place)));
            row = _mm512_add_ps(row, _mm512_castsi512_ps(_mm512_slli_epi32(plus, 16)));
        }
        _mm256_storeu_si256((__m256i *)(p->y + place), (__m256i)_mm512_cvtneps_pbh(row));
    }
}

// Multiplies 32 rows of the matrix with a group, or with two.
TILES_INLINED void multiply(const uint32_t *packed, int64_t group, int64_t output, int twice, const struct product *p) {
    const uint16_t *matrix = p->matrix + output * p->size;
    int64_t bytes = 2 * p->size, width = 4 * p->width, step_size = SIDE * p->width;
    const uint32_t *first = packed + group * p->steps * step_size, *second = first + p->steps * step_size;
    int is_last = group + 1 + twice >= p->groups;
    int64_t at_end = is_last ? (OUTPUTS - 1) * p->size : -p->size;  // the next 32 rows, or the same ones once more
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t step = 0; step < p->steps; step++) {
        const uint16_t *from = matrix + number_of(step, p);
        fetch(from + AHEAD * DEPTH + (step + AHEAD < p->steps ? 0 : at_end), p->size);
        _tile_loadd(6, first + step * step_size, width);
        _tile_loadd(4, from, bytes);
        _tile_loadd(5, from + SIDE * p->size, bytes);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 5, 6);
        if (!twice) continue;
        _tile_loadd(7, second + step * step_size, width);
        _tile_dpbf16ps(2, 4, 7);
        _tile_dpbf16ps(3, 5, 7);
    }
    float sums[4][SIDE * SIDE];
    _tile_stored(0, sums[0], width);
    _tile_stored(1, sums[1], width);
    _tile_stored(2, sums[2], width);
    _tile_stored(3, sums[3], width);
    for (int i = 0; i < 2 + 2 * twice; i++) put_sums(sums[i], group + i / 2, output + i % 2 * SIDE, p);
}

WITH_TILES static void pack_steps(int64_t first, int64_t end, uint32_t *packed, const struct product *p) {
    for (int64_t i = first; i < end; i++) pack(i / p->steps, i % p->steps, packed + i * SIDE * p->width, p);
}

WITH_TILES static void fetch_first(int64_t block, const struct product *p) {
    const uint16_t *from = p->matrix + least(block * OUTPUTS, p->outputs - OUTPUTS) * p->size;
    for (int64_t step = 0; step < least(AHEAD, p->steps); step++) fetch(from + step * DEPTH, p->size);
}

WITH_TILES static void multiply_blocks(int64_t first, int64_t end, const uint32_t *packed, const struct product *p) {
    configure(p->width);
    for (int64_t block = first; block < end; block++) {
        int64_t output = least(block * OUTPUTS, p->outputs - OUTPUTS), group = 0;
        for (; group + 1 < p->groups; group += 2) multiply(packed, group, output, 1, p);
        if (group < p->groups) multiply(packed, group, output, 0, p);
    }
    _tile_release();  // else the system would save them at every change of threads
}

// Whether there are tiles; a process has to ask the system for them.
int wb_cpu_has_tiles(void) {
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, TILES = 18 };
    return __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-bf16") &&
           __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && !syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILES);
}

// x [rows, size], matrix [outputs, size], plus and y [rows, outputs]; at least a row, and 32 numbers and outputs. Gives
// whether there was memory for a copy of x.
int wb_cpu_linear_tiles(const void *x, const void *matrix, const void *plus, void *y, int64_t rows, int64_t size,
                        int64_t outputs) {
    struct product product = {
        .x = x, .matrix = matrix, .plus = plus, .y = y, .rows = rows, .size = size, .outputs = outputs,
        .width = least(rows, SIDE), .groups = (rows + SIDE - 1) / SIDE, .steps = (size + DEPTH - 1) / DEPTH,
    };
    int64_t blocks = (outputs + OUTPUTS - 1) / OUTPUTS, tiles = product.groups * product.steps;
    uint32_t *packed = aligned_alloc(64, (size_t)(tiles * SIDE * SIDE) * sizeof *packed);
    if (!packed) return 0;
#pragma omp parallel if (outputs * size > TOO_LITTLE)
    {
        int64_t thread = omp_get_thread_num(), threads = omp_get_num_threads();
        int64_t first = blocks * thread / threads, end = blocks * (thread + 1) / threads;
        fetch_first(first, &product);
        pack_steps(tiles * thread / threads, tiles * (thread + 1) / threads, packed, &product);
        WRITTEN(packed);
#pragma omp barrier
        multiply_blocks(first, end, packed, &product);
    }
    free(packed);
    return 1;
}

#else
int wb_cpu_has_tiles(void) { return 0; }
#endif
