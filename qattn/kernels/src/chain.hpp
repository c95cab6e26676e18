// Spins in a band of width W by transfer matrices; qattn/exact/chain/scan.py derives the formulas.
//
// Queries lie side by side. A window of W spins has 2^W states, and spin t is bit t % W of
// their numbers: a step replaces one bit, so that it is 2^(W-1) butterflies in place,
//     new up: u+ (K++ a+ + K+- a-),    new down: u- (K-+ a+ + K-- a-).
// Messages are scaled by powers of two, which is exact; u and K are at most 1. A query that has
// ended keeps its messages while the others go on.
#pragma once
#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "lanes.hpp"
#include "parallel.hpp"

#define ALWAYS inline __attribute__((always_inline))  // of members

namespace chain {

INLINE lanes absolute(lanes x) { return (lanes)((ints)x & 0x7fffffff); }
INLINE lanes zero_unless(ints mask, lanes x) { return (lanes)(mask & (ints)x); }

// For numbers in [2^k, 2^(k+1)): k, and 2^(target - k) where that is a number.
INLINE ints power(lanes x) { return (((ints)x & 0x7f800000) >> 23) - 127; }
INLINE lanes scale_to(int target, lanes x) {
    const ints exponents = target + 127 - power(x);
    return (lanes)((exponents > 254 ? 254 : exponents) << 23);
}
constexpr int HEIGHT = 60;  // messages are kept near 2^60: room for what is small beside them
constexpr float HIGH = 1LL << HEIGHT;

template <class F, int... I>
INLINE void repeat_each(F f, std::integer_sequence<int, I...>) {
    (f(std::integral_constant<int, I>{}), ...);
}

// f(0), ..., f(N - 1): where they are few, one after the other with constants.
template <int N, bool UNROLL = N <= 8, class F>
INLINE void repeat(F f) {
    if constexpr (UNROLL) repeat_each(f, std::make_integer_sequence<int, N>{});
    else
        for (int i = 0; i < N; ++i) f(i);
}

// Widths up to which everything is a constant, so that the messages are registers; what is more
// takes long to compile and gains nothing.
#if defined(__AVX512F__)
constexpr int UNROLLED = 4;
#else
constexpr int UNROLLED = 2;
#endif

// The bits of a window and the pairs of its states.
template <int W, int LIMIT = UNROLLED, class F>
INLINE void bits(F f) {
    repeat<W, W <= LIMIT>(f);
}
template <int W, int LIMIT = UNROLLED, class F>
INLINE void butterflies(F f) {
    repeat<1 << (W - 1), W <= LIMIT>(f);
}

// Where the newest spin is bit p: the state of butterfly k in which it is down.
INLINE constexpr int down_state(int k, int p) { return (k >> p << (p + 1)) | (k & ((1 << p) - 1)); }

// a[0] + ... + a[N - 1], N a power of two.
template <int N>
INLINE lanes sum(const lanes* a) {
    constexpr int M = N < 4 ? N : 4;
    lanes sums[M];
    repeat<M>([&](auto i) __attribute__((always_inline)) { sums[i] = a[i]; });
    repeat<N / M - 1>([&](auto k) __attribute__((always_inline)) {
        repeat<M>([&](auto i) __attribute__((always_inline)) { sums[i] += a[M * (k + 1) + i]; });
    });
    if constexpr (M == 1) return sums[0];
    else if constexpr (M == 2) return sums[0] + sums[1];
    else return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

struct Couplings {  // J_{t,t-d} of a group, 0 before the first spin
    const float* values;
    int64_t stride_t, stride_d;
    float operator()(int64_t t, int64_t d) const {
        return d > t ? 0.0f : values[t * stride_t + (d - 1) * stride_d];
    }
};

// K of every step over its maximum: for each butterfly K--, K-+, K+-, K++ (new, old).
template <int W>
struct Tables {
    static constexpr int SIZE = std::max(2 << W, int(LANES));
    std::vector<float> K;
    std::vector<double> log_top;  // of all steps before each
    bool repeats = false;

    explicit Tables(int64_t n) : K(n * SIZE), log_top(n + 1) {}

    // Where J depends on the distance only, the tables of W steps are those of all that follow.
    const float* operator[](int64_t t) const {
        return &K[(repeats && t >= 2 * W ? W + t % W : t) * SIZE];
    }

    void compute(const Couplings& J, int64_t n) {
        repeats = J.stride_t == 0;
        for (int64_t t = 0; t < n; ++t) {
            double top = 0;
            for (int d = 1; d <= W; ++d) top += std::fabs(J(t, d));
            log_top[t + 1] = log_top[t] + top;
            if (repeats && t >= 2 * W) continue;
            const int p = t % W;
            float* table = &K[t * SIZE];
            for (int k = 0; k < 1 << (W - 1); ++k) {
                double field = 0;  // of the kept spins on the new one
                for (int d = 1; d < W; ++d)
                    field += down_state(k, p) >> ((p + W - d) % W) & 1 ? J(t, d) : -J(t, d);
                for (int i = 0; i < 4; ++i)
                    table[4 * k + i] =
                        (i & 2 ? 1 : -1) * (field + (i & 1 ? 1 : -1) * J(t, W)) - top;
            }
            for (int i = 0; i < SIZE; i += LANES) store(table + i, exponential(load(table + i)));
        }
    }
};

struct Weights {  // u of a spin's two states, the larger 1
    lanes up, down;
    explicit Weights(lanes h) {
        lanes e = exponential(absolute(h) * splat(-2.0f));
        up = select(h >= splat(0.0f), splat(1.0f), e);
        down = select(h >= splat(0.0f), e, splat(1.0f));
    }
};

constexpr int64_t AHEAD = 8;  // rows that are fetched before they are needed

struct Queries {  // LANES of a group, or the last ones, as columns of arrays (n, Q)
    int64_t Q, q, count, shortest, longest;
    ints length = {};

    Queries(const int64_t* lengths, int64_t Q, int64_t q)
        : Q(Q), q(q), count(std::min(Q - q, LANES)) {
        auto ends = std::minmax_element(lengths + q, lengths + q + count);
        shortest = *ends.first;
        longest = *ends.second;
        for (int64_t i = 0; i < LANES; ++i) length[i] = i < count ? lengths[q + i] : shortest;
    }
    // Rows are read upwards and written downwards; they lie too far apart to be fetched unasked.
    lanes row(const float* x, int64_t t) const {
        __builtin_prefetch(x + (t + AHEAD) * Q + q);
        return load_some(x + t * Q + q, count);
    }
    void set_row(float* x, int64_t t, lanes y) const {
        if (t >= AHEAD) __builtin_prefetch(x + (t - AHEAD) * Q + q, 1);
        store_some(x + t * Q + q, y, count);
    }
    ints have(int64_t t) const { return length > (int32_t)t; }
    void set_zero_from(float* x, int64_t t, int64_t n) const {
        for (; t < n; ++t) set_row(x, t, lanes{});
    }
};

// One step forwards, of bit p. `have` masks the queries that have the spin; ALL have it mostly.
template <int W, bool ALL>
INLINE void advance(int p, lanes* a, const float* K, lanes up, lanes down, ints have) {
    butterflies<W>([&](auto k) __attribute__((always_inline)) {
        const int i = down_state(k, p), j = i | 1 << p;
        lanes d = (splat(K[4 * k]) * a[i] + splat(K[4 * k + 1]) * a[j]) * down;
        lanes u = (splat(K[4 * k + 2]) * a[i] + splat(K[4 * k + 3]) * a[j]) * up;
        a[i] = ALL ? d : select(have, d, a[i]);
        a[j] = ALL ? u : select(have, u, a[j]);
    });
}

// Where the sum of the messages is taken: after the last step of a window, and on the way.
constexpr bool scaled_after(int p, int W) { return p == W - 1 || (W > 4 && p % 2 == 1); }
}  // namespace chain
