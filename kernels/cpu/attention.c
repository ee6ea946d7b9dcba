// Attention over the paged cache, for one query token a row.
//
// A sequence is read in parts, all of its heads together where there are rows enough for the threads: a token's keys and
// values lie side by side, and what is read in order comes from memory several times as fast. A part's scores lie on the
// stack, and what was found before is scaled to the new largest one (an online softmax).
#include <float.h>
#include <omp.h>

#include "numbers.h"

enum { PART = 64, AHEAD = 8, LARGEST_HEAD = 512, LINE = 64 };

struct cache {
    const void *tokens;    // [slots, 2, kv_heads, size]
    const int64_t *table;  // blocks of this sequence
    int64_t kv_heads, size, block_size;
};

// Heads of one row: those of `count` key heads from `first` on, `sharing` to each.
struct heads {
    int64_t first, count, sharing;
};

INLINED const void *key_of(const struct cache *cache, int64_t token, int64_t kv_head, int64_t size, int kind) {
    int64_t slot = cache->table[token / cache->block_size] * cache->block_size + token % cache->block_size;
    return at(cache->tokens, (slot * 2 * cache->kv_heads + kv_head) * size, kind);
}

INLINED void read_line(const void *from, float *line, int64_t size, int kind) {
    for (int64_t i = 0; i < size; i++) line[i] = get(from, i, kind);
}

// Asks for a token's keys and values before they are needed: where its slot lies no processor guesses.
INLINED void fetch(const struct cache *cache, int64_t token, struct heads heads, int64_t size, int kind) {
    const char *keys = key_of(cache, token, heads.first, size, kind);
    int64_t bytes = heads.count * size * bytes_of(kind), to_values = cache->kv_heads * size * bytes_of(kind);
    for (int64_t i = 0; i < bytes; i += LINE) {
        __builtin_prefetch(keys + i);
        __builtin_prefetch(keys + to_values + i);
    }
}

INLINED float dot(const float *a, const float *b, int64_t size) {
    float sum = 0;
    for (int64_t i = 0; i < size; i++) sum += a[i] * b[i];
    return sum;
}

// Turns scores into shares of a sum that goes on; what was found before is scaled alike.
INLINED void weigh(float *scores, int64_t count, float *largest, float *sum, float *values, int64_t size) {
    float before = *largest, part = 0;
    for (int64_t i = 0; i < count; i++) *largest = __builtin_fmaxf(*largest, scores[i]);
    for (int64_t i = 0; i < count; i++) {
        scores[i] = exponential(scores[i] - *largest);
        part += scores[i];
    }
    float kept = exponential(before - *largest);  // of nothing, in the first part
    for (int64_t i = 0; i < size; i++) values[i] *= kept;
    *sum = *sum * kept + part;
}

// queries and out [heads, size]
INLINED void attend(const void *queries, void *out, const struct cache *cache, struct heads heads, int64_t length,
                    int64_t size, float scale, int kind) {
    int64_t all = heads.count * heads.sharing;
    float asked[all][size], values[all][size], scores[all][PART], largest[all], sum[all], line[LARGEST_HEAD];
    for (int64_t head = 0; head < all; head++) {
        largest[head] = -FLT_MAX;
        sum[head] = 0;
        for (int64_t i = 0; i < size; i++) {
            asked[head][i] = get(queries, head * size + i, kind) * scale;
            values[head][i] = 0;
        }
    }
    for (int64_t start = 0; start < length; start += PART) {
        int64_t count = length - start < PART ? length - start : PART;
        for (int64_t t = 0; t < count; t++) {
            if (start + t + AHEAD < length) fetch(cache, start + t + AHEAD, heads, size, kind);
            for (int64_t group = 0; group < heads.count; group++) {
                read_line(key_of(cache, start + t, heads.first + group, size, kind), line, size, kind);
                for (int64_t head = group * heads.sharing; head < (group + 1) * heads.sharing; head++)
                    scores[head][t] = dot(asked[head], line, size);
            }
        }
        for (int64_t head = 0; head < all; head++)
            weigh(scores[head], count, &largest[head], &sum[head], values[head], size);
        for (int64_t t = 0; t < count; t++) {
            for (int64_t group = 0; group < heads.count; group++) {
                const void *key = key_of(cache, start + t, heads.first + group, size, kind);
                read_line(at(key, cache->kv_heads * size, kind), line, size, kind);
                for (int64_t head = group * heads.sharing; head < (group + 1) * heads.sharing; head++)
                    for (int64_t i = 0; i < size; i++) values[head][i] += scores[head][t] * line[i];
            }
        }
    }
    for (int64_t head = 0; head < all; head++)
        for (int64_t i = 0; i < size; i++) put(out, head * size + i, values[head][i] / sum[head], kind);
}

// The sizes that models have are known where the loops are compiled.
#define FOR_EVERY_SIZE(name, kind)                                                                                    \
    FOR_EVERY_PROCESSOR static void name(const void *queries, void *out, const struct cache *cache, struct heads heads, \
                                         int64_t length, float scale) {                                               \
        if (cache->size == 64)                                                                                        \
            attend(queries, out, cache, heads, length, 64, scale, kind);                                              \
        else if (cache->size == 128)                                                                                  \
            attend(queries, out, cache, heads, length, 128, scale, kind);                                             \
        else                                                                                                          \
            attend(queries, out, cache, heads, length, cache->size, scale, kind);                                     \
    }
FOR_EVERY_SIZE(attend_float32, FLOAT32)
FOR_EVERY_SIZE(attend_bfloat16, BFLOAT16)

// queries and out [rows, heads, size], tokens [slots, 2, kv_heads, size], tables [rows, blocks], lengths [rows]
void wb_cpu_attend(const void *queries, void *out, const void *tokens, const int64_t *tables, const int64_t *lengths,
                   int64_t rows, int64_t heads, int64_t kv_heads, int64_t size, int64_t blocks, int64_t block_size,
                   float scale, int kind) {
    int64_t sharing = heads / kv_heads, work = 0;
    for (int64_t row = 0; row < rows; row++) work += lengths[row] * heads * size;
    int64_t shares = rows < omp_get_max_threads() ? kv_heads : 1;  // of a row
#pragma omp parallel for schedule(dynamic) if (work > TOO_LITTLE)
    for (int64_t index = 0; index < rows * shares; index++) {
        int64_t row = index / shares, count = kv_heads / shares, first = index % shares * count;
        struct cache cache = {tokens, tables + row * blocks, kv_heads, size, block_size};
        struct heads some = {first, count, sharing};
        int64_t place = (row * heads + first * sharing) * size;
        (kind == FLOAT32 ? attend_float32 : attend_bfloat16)(at(queries, place, kind), (void *)at(out, place, kind),
                                                             &cache, some, lengths[row], scale);
    }
}
