// Occupations and log Z of spins in a band: see chain.hpp.
#pragma once
#include "chain.hpp"

namespace chain {

// Queries side by side: forwards with a record of every window, then backwards.
template <int W>
struct Forward {
    static constexpr int S = 1 << W, RECORD = 2 * W + S;
    const Tables<W>& K;
    const Queries& at;
    std::vector<lanes>& records;  // of each window: u of its spins, and messages at its end

    lanes a[S], b[S];
    lanes scale_a = splat(1.0f), scale_b = splat(1.0f), fields = {};
    // The least sum of a message; with sums of 1, the least sum over s = +1; the least occupation.
    lanes smallest = splat(HIGH), lowest = splat(1.0f), faintest = splat(1.0f);
    ints exponent = ints{} - HEIGHT;

    Forward(const Tables<W>& K, const Queries& at, std::vector<lanes>& records)
        : K(K), at(at), records(records) {}

    lanes* record(int64_t t) { return &records[t / W * RECORD]; }

    ALWAYS void close_window(int64_t t) {
        lanes all = sum<S>(a), *kept = record(t) + 2 * W;
        repeat<S, W <= UNROLLED>([&](auto i) __attribute__((always_inline)) { kept[i] = a[i]; });
        smallest = minimum(smallest, all);
        scale_a = scale_to(HEIGHT, all);
    }

    template <bool ALL>
    ALWAYS void forwards(int p, const float* h, int64_t t) {
        ints have = at.have(t);
        lanes x = at.row(h, t);
        Weights u(x);
        record(t)[2 * p] = u.up;
        record(t)[2 * p + 1] = u.down;
        fields += ALL ? absolute(x) : zero_unless(have, absolute(x));
        exponent -= have & power(scale_a);
        advance<W, ALL>(p, a, K[t], u.up * scale_a, u.down * scale_a, have);
        scale_a = splat(1.0f);
        if (p == W - 1) close_window(t);
        else if (scaled_after(p, W)) {
            lanes all = sum<S>(a);
            smallest = minimum(smallest, all);
            scale_a = scale_to(HEIGHT, all);
        }
    }

    // p(s = +1) of the window's spins: sums of ab over the states with a bit set, one bit a time.
    ALWAYS void marginals(float* up, int64_t first) {
        const lanes* kept = record(first) + 2 * W;
        lanes joint[S], upper[W];
        repeat<S, W <= UNROLLED>([&](auto i) __attribute__((always_inline)) { joint[i] = kept[i] * b[i]; });
        repeat<W>([&](auto i) __attribute__((always_inline)) {
            constexpr int P = W - 1 - i, N = 1 << P;
            upper[P] = sum<N>(joint + N);
            repeat<N>([&](auto k) __attribute__((always_inline)) { joint[k] += joint[N + k]; });
        });
        lanes over = splat(1.0f) / joint[0];
        const lanes all = sum<S>(b), one_a = scale_to(0, sum<S>(kept)), one_b = scale_to(0, all);
        smallest = minimum(smallest, all);
        scale_b = scale_to(HEIGHT, all);
        for (int p = 0; p < W && first + p < at.longest; ++p) {
            ints have = at.have(first + p);
            const lanes value = upper[p] * over;
            at.set_row(up, first + p, zero_unless(have, value));
            faintest = select(have, minimum(faintest, value), faintest);
            lowest = select(have, minimum(lowest, upper[p] * one_a * one_b), lowest);
        }
    }

    template <bool ALL>
    ALWAYS void backwards(int p, int64_t t) {
        const float* table = K[t];
        lanes up = record(t)[2 * p] * scale_b, down = record(t)[2 * p + 1] * scale_b;
        ints have = at.have(t);
        butterflies<W>([&](auto k) __attribute__((always_inline)) {
            const int i = down_state(k, p), j = i | 1 << p;
            lanes d = down * b[i], u = up * b[j];
            lanes x = splat(table[4 * k]) * d + splat(table[4 * k + 2]) * u;
            lanes y = splat(table[4 * k + 1]) * d + splat(table[4 * k + 3]) * u;
            b[i] = ALL ? x : select(have, x, b[i]);
            b[j] = ALL ? y : select(have, y, b[j]);
        });
        scale_b = splat(1.0f);
        if (p > 0 && scaled_after(p - 1, W)) {
            lanes all = sum<S>(b);
            smallest = minimum(smallest, all);
            scale_b = scale_to(HEIGHT, all);
        }
    }

    ALWAYS void run(const float* h, float* up, float* log_Z, float* least) {
        repeat<S, W <= UNROLLED>([&](auto i) __attribute__((always_inline)) {
            a[i] = splat(i == 0 ? HIGH : 0.0f), b[i] = splat(HIGH);
        });
        int64_t t = 0;
        for (; t + W <= at.shortest; t += W)
            bits<W>([&](auto p) __attribute__((always_inline)) { forwards<true>(p, h, t + p); });
        const int64_t common = t;
        for (; t < at.longest; t += W)
            bits<W>([&](auto p) __attribute__((always_inline)) {
                if (t + p < at.longest) forwards<false>(p, h, t + p);
            });
        if (at.longest % W) close_window(at.longest);
        lanes all = sum<S>(a);
        for (t -= W; t >= 0; t -= W) {
            marginals(up, t);
            if (t < common)
                bits<W>([&](auto i) __attribute__((always_inline)) {
                    backwards<true>(W - 1 - i, t + W - 1 - i);
                });
            else
                bits<W>([&](auto i) __attribute__((always_inline)) {
                    if (t + W - 1 - i < at.longest) backwards<false>(W - 1 - i, t + W - 1 - i);
                });
        }
        for (int64_t i = 0; i < at.count; ++i)
            log_Z[at.q + i] = std::log(double(all[i])) + exponent[i] * std::log(2.0) + fields[i] +
                              K.log_top[at.length[i]];
        lanes enough = select(faintest < splat(1e-37f), lanes{}, lowest * smallest);
        store_some(least + at.q, enough, at.count);
    }
};

// h and up (groups, n, queries), log_Z and least (groups, queries); lengths (1 or groups, queries).
template <int W>
void forward(const float* h, const float* values, const int64_t* strides, float* up, float* log_Z,
             float* least, const int64_t* lengths, int64_t uneven, int64_t G, int64_t n, int64_t Q,
             int64_t threads) {
    const int64_t shares = (threads + G - 1) / std::max<int64_t>(G, 1);
    parallel_for(G * shares, threads, [&](int64_t, int64_t item) {
        const int64_t g = item / shares;
        Tables<W> K(n);
        K.compute({values + g * strides[0], strides[1], strides[2]}, n);
        std::vector<lanes> records((n + W - 1) / W * Forward<W>::RECORD);
        for (int64_t q = item % shares * LANES; q < Q; q += shares * LANES) {
            Queries at(lengths + (uneven ? g * Q : 0), Q, q);
            Forward<W>(K, at, records).run(h + g * n * Q, up + g * n * Q, log_Z + g * Q,
                                           least + g * Q);
            at.set_zero_from(up + g * n * Q, at.longest, n);
        }
    });
}
}  // namespace chain

extern "C" void qattn_chain_forward(const float* h, const float* values, const int64_t* strides,
                                       float* up, float* log_Z, float* least,
                                       const int64_t* lengths, int64_t uneven, int64_t G,
                                       int64_t n, int64_t Q, int64_t w, int64_t threads) {
    decltype(&chain::forward<1>) widths[] = {
        chain::forward<1>, chain::forward<2>, chain::forward<3>, chain::forward<4>,
        chain::forward<5>, chain::forward<6>, chain::forward<7>, chain::forward<8>};
    widths[w - 1](h, values, strides, up, log_Z, least, lengths, uneven, G, n, Q, threads);
}
