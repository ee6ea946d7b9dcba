// Rotary positions for queries and keys; keys and values go into their slots of the cache.
#include <math.h>

#include "numbers.h"

enum { LARGEST_HEAD = 512 };

struct turns {
    const float *cos_sin;               // [positions, size]: cosines, then sines
    const void *query_norm, *key_norm;  // [size], or null
    float eps;
    int64_t heads, kv_heads, size;
};

// One head: normed where there is a norm, and turned by the angles of its position.
INLINED void turn(const void *x, const void *norm, const float *angles, void *out, const struct turns *turns, int kind) {
    int64_t size = turns->size, half = size / 2;
    float head[LARGEST_HEAD];
    for (int64_t i = 0; i < size; i++) head[i] = get(x, i, kind);
    if (norm) {
        float squares = 0;
        for (int64_t i = 0; i < size; i++) squares += head[i] * head[i];
        float scale = 1.0f / sqrtf(squares / (float)size + turns->eps);
        for (int64_t i = 0; i < size; i++) head[i] *= scale * get(norm, i, kind);
    }
    for (int64_t i = 0; i < half; i++) {
        put(out, i, head[i] * angles[i] - head[half + i] * angles[half + i], kind);
        put(out, half + i, head[half + i] * angles[i] + head[i] * angles[half + i], kind);
    }
}

INLINED void row(const void *qkv, int64_t position, void *slot, void *queries, const struct turns *turns, int kind) {
    int64_t size = turns->size, heads = turns->heads, kv_heads = turns->kv_heads;
    const float *angles = turns->cos_sin + position * size;
    for (int64_t head = 0; head < heads; head++)
        turn(at(qkv, head * size, kind), turns->query_norm, angles, (void *)at(queries, head * size, kind), turns, kind);
    for (int64_t head = 0; head < kv_heads; head++)
        turn(at(qkv, (heads + head) * size, kind), turns->key_norm, angles, (void *)at(slot, head * size, kind), turns,
             kind);
    const void *values = at(qkv, (heads + kv_heads) * size, kind);
    memcpy((void *)at(slot, kv_heads * size, kind), values, (size_t)(kv_heads * size * bytes_of(kind)));
}

FOR_EVERY_PROCESSOR static void row_float32(const void *qkv, int64_t position, void *slot, void *queries,
                                            const struct turns *turns) {
    row(qkv, position, slot, queries, turns, FLOAT32);
}

FOR_EVERY_PROCESSOR static void row_bfloat16(const void *qkv, int64_t position, void *slot, void *queries,
                                             const struct turns *turns) {
    row(qkv, position, slot, queries, turns, BFLOAT16);
}

// qkv [rows, (heads + 2 * kv_heads) * size], positions and slots [rows], cache [slots, 2, kv_heads, size],
// queries [rows, heads, size]
void wb_cpu_rotate_and_store(const void *qkv, const int64_t *positions, const int64_t *slots, const float *cos_sin,
                             void *cache, const void *query_norm, const void *key_norm, void *queries, int64_t rows,
                             int64_t heads, int64_t kv_heads, int64_t size, float eps, int kind) {
    struct turns turns = {cos_sin, query_norm, key_norm, eps, heads, kv_heads, size};
    int64_t width = (heads + 2 * kv_heads) * size;
#pragma omp parallel for if (rows > 1 && rows * width > TOO_LITTLE)
    for (int64_t index = 0; index < rows; index++) {
        const void *from = at(qkv, index * width, kind);
        void *slot = (void *)at(cache, slots[index] * 2 * kv_heads * size, kind);
        void *to = (void *)at(queries, index * heads * size, kind);
        (kind == FLOAT32 ? row_float32 : row_bfloat16)(from, positions[index], slot, to, &turns);
    }
}
