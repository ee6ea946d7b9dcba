// Numbers of the kinds that a model may be of, read and written as float, and how a loop over them is compiled.
//
// A kind is known where a loop is compiled: every loop is inlined into one function for each kind.
#pragma once
#include <stdint.h>
#include <string.h>

enum { FLOAT32, BFLOAT16 };

#define INLINED static inline __attribute__((always_inline))
#if defined(__x86_64__)
// The loader takes the one that this processor can run.
#define FOR_EVERY_PROCESSOR __attribute__((noinline, target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FOR_EVERY_PROCESSOR __attribute__((noinline))
#endif

static const int64_t TOO_LITTLE = 1 << 14;  // numbers; with fewer, waking the other threads takes longer than the work

INLINED int64_t bytes_of(int kind) { return kind == FLOAT32 ? 4 : 2; }

INLINED const void *at(const void *start, int64_t index, int kind) {
    return (const char *)start + index * bytes_of(kind);
}

// By its bits: the compiler, which may take every number for finite, would leave out a comparison of numbers.
INLINED int is_nan(float number) {
    uint32_t bits;
    memcpy(&bits, &number, sizeof bits);
    return (bits & 0x7fffffff) > 0x7f800000;
}

INLINED float get(const void *from, int64_t index, int kind) {
    if (kind == FLOAT32) return ((const float *)from)[index];
    uint32_t bits = (uint32_t)((const uint16_t *)from)[index] << 16;
    float number;
    memcpy(&number, &bits, sizeof number);
    return number;
}

INLINED void put(void *to, int64_t index, float number, int kind) {
    if (kind == FLOAT32) {
        ((float *)to)[index] = number;
        return;
    }
    uint32_t bits;
    memcpy(&bits, &number, sizeof bits);
    uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;  // to the nearest, ties to even
    ((uint16_t *)to)[index] = (uint16_t)(is_nan(number) ? 0x7fc0 : rounded);
}

// exp for what a softmax and a gate need, in plain arithmetic so that it runs many at a time: 2^(x * log2 e), whole and
// rest apart, the rest by a polynomial that is right to 2 units in the last place of a float. NaN, which clamping would
// make a number of, stays NaN: what is wrong in a model must not look like an answer.
INLINED float exponential(float x) {
    float clamped = __builtin_fmaxf(__builtin_fminf(x, 88.0f), -87.0f);
    float whole = __builtin_rintf(clamped * 1.44269504f);
    float rest = (clamped - whole * 0.693359375f) + whole * 2.12194440e-4f;  // ln 2 in two parts
    float power = 1.9875691500e-4f;
    power = power * rest + 1.3981999507e-3f;
    power = power * rest + 8.3334519073e-3f;
    power = power * rest + 4.1665795894e-2f;
    power = power * rest + 1.6666665459e-1f;
    power = power * rest + 5.0000001201e-1f;
    power = power * rest * rest + rest + 1.0f;
    uint32_t bits = (uint32_t)((int)whole + 127) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return is_nan(x) ? x : power * scale;
}
