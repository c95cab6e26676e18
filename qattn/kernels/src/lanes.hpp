// Queries side by side, as many as a register of the machine holds: GCC's and Clang's vector
// extension. A namespace that includes this file again, with LANES_BYTES defined, has lanes of its
// own.
#if !defined(QATTN_LANES) || defined(LANES_BYTES)
#ifndef QATTN_LANES
#define QATTN_LANES
#include <cstdint>
#include <cstring>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif
#define INLINE static inline __attribute__((always_inline))
#endif
#ifndef LANES_BYTES
#if defined(__AVX512F__)
#define LANES_BYTES 64
#elif defined(__AVX__)
#define LANES_BYTES 32
#else
#define LANES_BYTES 16
#endif
#endif

constexpr int64_t LANES = LANES_BYTES / 4;
typedef float lanes __attribute__((vector_size(LANES_BYTES)));
typedef int32_t ints __attribute__((vector_size(LANES_BYTES)));

INLINE lanes splat(float x) { return x - lanes{}; }  // x + 0 would be computed, for -0

INLINE lanes load(const float* p) {
    lanes x;
    std::memcpy(&x, p, sizeof x);
    return x;
}

INLINE void store(float* p, lanes x) { std::memcpy(p, &x, sizeof x); }

// The first `count` lanes from memory, 0 in the others.
INLINE lanes load_some(const float* p, int64_t count) {
    if (count >= LANES) return load(p);
#if defined(__AVX512F__)
    if constexpr (LANES == 16) return (lanes)_mm512_maskz_loadu_ps((1 << count) - 1, p);
#endif
    lanes x = {};
    std::memcpy(&x, p, count * sizeof(float));
    return x;
}

INLINE void store_some(float* p, lanes x, int64_t count) {
    if (count >= LANES) store(p, x);
#if defined(__AVX512F__)
    else if constexpr (LANES == 16) _mm512_mask_storeu_ps(p, (1 << count) - 1, (__m512)x);
#endif
    else std::memcpy(p, &x, count * sizeof(float));
}

INLINE lanes select(ints mask, lanes yes, lanes no) {
    return (lanes)((mask & (ints)yes) | (~mask & (ints)no));
}

INLINE lanes maximum(lanes a, lanes b) { return select(a > b, a, b); }
INLINE lanes minimum(lanes a, lanes b) { return select(a < b, a, b); }
INLINE lanes magnitude(lanes x) { return (lanes)((ints)x & 0x7fffffff); }

// 1/x to 2 units in the last place.
INLINE lanes reciprocal(lanes x) {
#if defined(__AVX512F__)
    lanes r = (lanes)_mm512_rcp14_ps((__m512)x);
    return r * (splat(2.0f) - x * r);
#else
    return splat(1.0f) / x;
#endif
}

// e^x to 2 units in the last place, 0 below the normal numbers (denormal ones are slow).
INLINE lanes exponential(lanes x) {
    ints tiny = x < splat(-87.0f);
    x = minimum(maximum(x, splat(-87.0f)), splat(88.0f));
    // x = k log 2 + r with |r| <= log 2 / 2; adding 1.5 * 2^23 rounds to a whole number.
    lanes shifted = x * splat(1.44269504f) + splat(12582912.0f);
    ints k = (ints)shifted - (ints)splat(12582912.0f);
    lanes whole = shifted - splat(12582912.0f);
    lanes r = x - whole * splat(0.693359375f) - whole * splat(-2.12194440e-4f);
    // Cephes' polynomial for e^r.
    lanes p = splat(1.9875691500e-4f);
    p = p * r + splat(1.3981999507e-3f);
    p = p * r + splat(8.3334519073e-3f);
    p = p * r + splat(4.1665795894e-2f);
    p = p * r + splat(1.6666665459e-1f);
    p = p * r + splat(5.0000001201e-1f);
    p = p * r * r + r + splat(1.0f);
    lanes result = (lanes)((ints)p + (k << 23));
    return select(tiny, lanes{}, result);
}

// log x of normal numbers x > 0, to 1e-7 besides rounding: Cephes' polynomial.
INLINE lanes logarithm(lanes x) {
    ints bits = (ints)x;
    ints exponent = (bits >> 23) - 127;
    lanes m = (lanes)((bits & 0x7fffff) | 0x3f800000);
    ints high = m > splat(1.41421356f);
    m = select(high, m * splat(0.5f), m) - splat(1.0f);
    lanes k = __builtin_convertvector(exponent - high, lanes);  // a true mask is -1
    lanes z = m * m, p = splat(7.0376836292e-2f);
    p = p * m + splat(-1.1514610310e-1f);
    p = p * m + splat(1.1676998740e-1f);
    p = p * m + splat(-1.2420140846e-1f);
    p = p * m + splat(1.4249322787e-1f);
    p = p * m + splat(-1.6668057665e-1f);
    p = p * m + splat(2.0000714765e-1f);
    p = p * m + splat(-2.4999993993e-1f);
    p = p * m + splat(3.3333331174e-1f);
    lanes y = p * m * z + k * splat(-2.12194440e-4f) - splat(0.5f) * z;
    return m + y + k * splat(0.693359375f);
}

#undef LANES_BYTES
#endif
