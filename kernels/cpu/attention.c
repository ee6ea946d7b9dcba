// Attention over the paged cache, for one query token a sequence.
//
// The query heads that share a key head are done together: what is read of the cache is read once. A sequence is read in
// parts; a part's scores lie on the stack, and what was found before is scaled to the new largest one (an online softmax).
#include <float.h>

#include "numbers.h"

enum { PART = 64, LARGEST_HEAD = 512, MOST_SHARING = 16 };

struct cache {
    const void *tokens;    // [slots, 2, kv_heads, size]
    const int64_t *table;  // blocks of this sequence
    int64_t kv_heads, size, block_size;
};

struct found {
    float largest, sum, values[LARGEST_HEAD];
};

INLINED const void *key_of(const struct cache *cache, int64_t token, int64_t kv_head, int kind) {
    int64_t slot = cache->table[token / cache->block_size] * cache->block_size + token % cache->block_size;
    return at(cache->tokens, (slot * 2 * cache->kv_heads + kv_head) * cache->size, kind);
}

INLINED float dot(const float *a, const float *b, int64_t size) {
    float sum = 0;
    for (int64_t i = 0; i < size; i++) sum += a[i] * b[i];
    return sum;
}

// Turns scores into shares of a sum that goes on.
INLINED void weigh(float *scores, int64_t count, struct found *found, int64_t size) {
    float largest = found->largest, sum = 0;
    for (int64_t i = 0; i < count; i++) largest = __builtin_fmaxf(largest, scores[i]);
    for (int64_t i = 0; i < count; i++) {
        scores[i] = exponential(scores[i] - largest);
        sum += scores[i];
    }
    float before = found->sum > 0 ? exponential(found->largest - largest) : 0;
    for (int64_t i = 0; i < size; i++) found->values[i] *= before;
    found->sum = found->sum * before + sum;
    found->largest = largest;
}

// `sharing` heads of one sequence that read the same keys; queries and out [sharing, size]
INLINED void attend(const void *queries, void *out, const struct cache *cache, int64_t kv_head, int64_t length,
                    int64_t sharing, int64_t size, float scale, int kind) {
    float asked[MOST_SHARING][LARGEST_HEAD], scores[MOST_SHARING][PART], line[LARGEST_HEAD];
    struct found found[MOST_SHARING];
    for (int64_t head = 0; head < sharing; head++) {
        found[head].largest = -FLT_MAX;
        found[head].sum = 0;
        for (int64_t i = 0; i < size; i++) {
            asked[head][i] = get(queries, head * size + i, kind) * scale;
            found[head].values[i] = 0;
        }
    }
    for (int64_t start = 0; start < length; start += PART) {
        int64_t count = length - start < PART ? length - start : PART;
        for (int64_t t = 0; t < count; t++) {
            const void *key = key_of(cache, start + t, kv_head, kind);
            for (int64_t i = 0; i < size; i++) line[i] = get(key, i, kind);
            for (int64_t head = 0; head < sharing; head++) scores[head][t] = dot(asked[head], line, size);
        }
        for (int64_t head = 0; head < sharing; head++) weigh(scores[head], count, &found[head], size);
        for (int64_t t = 0; t < count; t++) {
            const void *value = at(key_of(cache, start + t, kv_head, kind), cache->kv_heads * size, kind);
            for (int64_t i = 0; i < size; i++) line[i] = get(value, i, kind);
            for (int64_t head = 0; head < sharing; head++)
                for (int64_t i = 0; i < size; i++) found[head].values[i] += scores[head][t] * line[i];
        }
    }
    for (int64_t head = 0; head < sharing; head++)
        for (int64_t i = 0; i < size; i++) put(out, head * size + i, found[head].values[i] / found[head].sum, kind);
}

// The sizes that models have are known where the loops are compiled.
#define FOR_SIZE(name, kind)                                                                                       \
    FOR_EVERY_PROCESSOR static void name(const void *queries, void *out, const struct cache *cache, int64_t kv_head, \
                                         int64_t length, int64_t sharing, float scale) {                           \
        if (cache->size == 64)                                                                                     \
            attend(queries, out, cache, kv_head, length, sharing, 64, scale, kind);                                \
        else if (cache->size == 128)                                                                               \
            attend(queries, out, cache, kv_head, length, sharing, 128, scale, kind);                               \
        else                                                                                                       \
            attend(queries, out, cache, kv_head, length, sharing, cache->size, scale, kind);                       \
    }
FOR_SIZE(attend_float32, FLOAT32)
FOR_SIZE(attend_bfloat16, BFLOAT16)

// queries and out [rows, heads, size], tokens [slots, 2, kv_heads, size], tables [rows, blocks], lengths [rows]
void wb_cpu_attend(const void *queries, void *out, const void *tokens, const int64_t *tables, const int64_t *lengths,
                   int64_t rows, int64_t heads, int64_t kv_heads, int64_t size, int64_t blocks, int64_t block_size,
                   float scale, int kind) {
    int64_t sharing = heads / kv_heads, work = 0;
    for (int64_t row = 0; row < rows; row++) work += lengths[row] * heads * size;
#pragma omp parallel for schedule(dynamic) if (work > TOO_LITTLE)
    for (int64_t index = 0; index < rows * kv_heads; index++) {
        int64_t row = index / kv_heads, kv_head = index % kv_heads;
        struct cache cache = {tokens, tables + row * blocks, kv_heads, size, block_size};
        for (int64_t first = 0; first < sharing; first += MOST_SHARING) {
            int64_t count = sharing - first < MOST_SHARING ? sharing - first : MOST_SHARING;
            int64_t place = (row * heads + kv_head * sharing + first) * size;
            (kind == FLOAT32 ? attend_float32 : attend_bfloat16)(
                at(queries, place, kind), (void *)at(out, place, kind), &cache, kv_head, lengths[row], count, scale);
        }
    }
}
