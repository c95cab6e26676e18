// Gradients of occupations and of log Z of spins in a band: see chain.hpp.
#pragma once
#include "chain.hpp"

namespace chain {

constexpr float UNIT = 1 << HEIGHT / 2;  // Σ ab, so that neither a nor b leaves the range of floats

// Queries side by side. Beside each message is that of f: a and f forwards, b and y backwards.
template <int W>
struct Backward {
    static constexpr int S = 1 << W, RECORD = 2 * S + 4;
    static constexpr int64_t CHUNK = std::max(W, (2048 >> W) / W * W);  // spins, whole windows

    const Tables<W>& K;
    const Queries& at;
    const float *h, *up, *grad_up;
    lanes c;                      // gradient in log Z: the constant part of f
    std::vector<lanes>& records;  // of each step: the messages before it, u, and f of its spin
    std::vector<lanes>& checkpoints;  // messages before each chunk

    lanes a[S], f[S], b[S], y[S];
    lanes scale = splat(1.0f);

    Backward(const Tables<W>& K, const Queries& at, const float* h, const float* up,
             const float* grad_up, lanes c, std::vector<lanes>& records,
             std::vector<lanes>& checkpoints)
        : K(K), at(at), h(h), up(up), grad_up(grad_up), c(c), records(records),
          checkpoints(checkpoints) {}

    lanes* record(int64_t t) { return &records[t % CHUNK * RECORD]; }
    static int64_t checkpoint_size(int64_t n) { return (n + CHUNK - 1) / CHUNK * (2 * S + 1); }

    template <bool ALL>
    ALWAYS void forwards(int p, int64_t t) {
        const ints have = at.have(t);
        Weights u(at.row(h, t));
        const lanes up_scaled = u.up * scale, down_scaled = u.down * scale;
        lanes plus = {}, minus = {};  // f of the spin's two states
        if (grad_up) {
            const lanes g = at.row(grad_up, t);
            minus = g * at.row(up, t), plus = g - minus;
            if (!ALL) plus = zero_unless(have, plus), minus = zero_unless(have, minus);
        }
        lanes* kept = record(t);
        kept[0] = up_scaled, kept[1] = down_scaled, kept[2] = plus, kept[3] = minus;
        const float* table = K[t];
        butterflies<W, 2>([&](auto k) __attribute__((always_inline)) {
            const int i = down_state(k, p), j = i | 1 << p;
            const lanes dd = splat(table[4 * k]), du = splat(table[4 * k + 1]);
            const lanes ud = splat(table[4 * k + 2]), uu = splat(table[4 * k + 3]);
            const lanes ai = a[i], aj = a[j], fi = f[i], fj = f[j];
            kept[4 + i] = ai, kept[4 + j] = aj, kept[4 + S + i] = fi, kept[4 + S + j] = fj;
            const lanes d = (dd * ai + du * aj) * down_scaled, e = (ud * ai + uu * aj) * up_scaled;
            const lanes x = (dd * fi + du * fj) * down_scaled - minus * d;
            const lanes z = (ud * fi + uu * fj) * up_scaled + plus * e;
            a[i] = ALL ? d : select(have, d, ai);
            a[j] = ALL ? e : select(have, e, aj);
            f[i] = ALL ? x : select(have, x, fi);
            f[j] = ALL ? z : select(have, z, fj);
        });
        scale = scaled_after(p, W) ? scale_to(HEIGHT, sum<S>(a)) : splat(1.0f);
    }

    // grad_h and, for every distance, lanes that add up to the gradient in J_{t,t-d}.
    template <bool ALL>
    ALWAYS void backwards(int p, int64_t t, float* grad_h, lanes* grad_J, const lanes* a,
                          const lanes* f) {
        const ints have = at.have(t);
        const lanes* kept = record(t);
        const lanes up = kept[0], down = kept[1], plus = kept[2], minus = kept[3];
        const lanes *a0 = kept + 4, *f0 = kept + 4 + S;  // before the step; a and f are after it
        const float* table = K[t];
        lanes both[S / 2], unlike = {};
        lanes upper = {};  // E[f, s_t = +1]
        butterflies<W, 2>([&](auto k) __attribute__((always_inline)) {
            const int i = down_state(k, p), j = i | 1 << p;
            const lanes bi = b[i], bj = b[j], yi = y[i], yj = y[j];
            const lanes joint_up = a[j] * yj + f[j] * bj;
            upper += joint_up;
            both[k] = joint_up - (a[i] * yi + f[i] * bi);
            const lanes d = down * bi, u = up * bj;
            const lanes x = down * (yi - minus * bi), z = up * (yj + plus * bj);
            const lanes dd = splat(table[4 * k]), du = splat(table[4 * k + 1]);
            const lanes ud = splat(table[4 * k + 2]), uu = splat(table[4 * k + 3]);
            const lanes du_b = du * d, ud_b = ud * u, du_y = du * x, ud_y = ud * z;
            unlike += du_b * f0[j] + du_y * a0[j];
            unlike += ud_b * f0[i] + ud_y * a0[i];
            const lanes bi_new = dd * d + ud_b, bj_new = uu * u + du_b;
            const lanes yi_new = dd * x + ud_y, yj_new = uu * z + du_y;
            b[i] = ALL ? bi_new : select(have, bi_new, bi);
            b[j] = ALL ? bj_new : select(have, bj_new, bj);
            y[i] = ALL ? yi_new : select(have, yi_new, yi);
            y[j] = ALL ? yj_new : select(have, yj_new, yj);
        });
        at.set_row(grad_h, t, zero_unless(have, upper * splat(2.0f / UNIT) - c));
        grad_J[W - 1] += zero_unless(have, c * splat(UNIT) - splat(2.0f) * unlike);
        // E[f s_t s_{t-d}] from E[f s_t] by kept spins, of which one is summed over at a time.
        repeat<W - 1>([&](auto level) __attribute__((always_inline)) {
            constexpr int bit = W - 2 - level, N = 1 << bit;  // of the butterfly's number
            const int place = bit < p ? bit : bit + 1, d = (p + W - place) % W;
            const lanes signed_sum = sum<N>(both + N) - sum<N>(both);
            grad_J[d - 1] += ALL ? signed_sum : zero_unless(have, signed_sum);
            repeat<N>([&](auto k) __attribute__((always_inline)) { both[k] += both[N + k]; });
        });
    }

    // All steps from the first of a chunk, whose messages `a` and `f` are.
    ALWAYS void run_chunk(int64_t start, int64_t end) {
        int64_t t = start;
        for (; t + W <= std::min(end, at.shortest); t += W)
            bits<W, 2>([&](auto p) __attribute__((always_inline)) { forwards<true>(p, t + p); });
        for (; t < end; t += W)
            bits<W, 2>([&](auto p) __attribute__((always_inline)) {
                if (t + p < end) forwards<false>(p, t + p);
            });
    }

    template <bool ALL>
    ALWAYS void step_back(int p, int64_t t, int64_t end, float* grad_h, lanes* grad_J) {
        const lanes* after = t + 1 < end ? record(t + 1) + 4 : nullptr;
        backwards<ALL>(p, t, grad_h, grad_J + t * W, after ? after : a, after ? after + S : f);
    }

    void run(float* grad_h, lanes* grad_J) {
        for (int i = 0; i < S; ++i) a[i] = splat(i == 0 ? HIGH : 0.0f), f[i] = c * a[i];
        int64_t start = 0;
        for (; start < at.longest; start += CHUNK) {
            lanes* kept = &checkpoints[start / CHUNK * (2 * S + 1)];
            for (int i = 0; i < S; ++i) kept[i] = a[i], kept[S + i] = f[i];
            kept[2 * S] = scale;
            run_chunk(start, std::min(start + CHUNK, at.longest));
        }
        const lanes over = splat(UNIT) / sum<S>(a);
        for (int i = 0; i < S; ++i) b[i] = over, y[i] = lanes{};
        for (start -= CHUNK; start >= 0; start -= CHUNK) {
            const int64_t end = std::min(start + CHUNK, at.longest);
            if (end != at.longest) {
                const lanes* kept = &checkpoints[start / CHUNK * (2 * S + 1)];
                for (int i = 0; i < S; ++i) a[i] = kept[i], f[i] = kept[S + i];
                scale = kept[2 * S];
                run_chunk(start, end);
            }
            for (int64_t t = (end - 1) / W * W; t >= start; t -= W)
                if (t + W <= std::min(end, at.shortest))
                    bits<W, 2>([&](auto i) __attribute__((always_inline)) {
                        step_back<true>(W - 1 - i, t + W - 1 - i, end, grad_h, grad_J);
                    });
                else
                    bits<W, 2>([&](auto i) __attribute__((always_inline)) {
                        const int p = W - 1 - i;
                        if (t + p < end) step_back<false>(p, t + p, end, grad_h, grad_J);
                    });
        }
    }
};

INLINE float across(lanes x) {
    float total = 0;
    for (int64_t i = 0; i < LANES; ++i) total += x[i];
    return total;
}

// As forward's arguments; grad_values (groups, shares, n, W) is a sum to take over the shares.
template <int W>
void backward(const float* grad_up, const float* grad_log_Z, const float* h, const float* values,
              const int64_t* strides, const float* up, float* grad_h, float* grad_values,
              const int64_t* lengths, int64_t uneven, int64_t G, int64_t n, int64_t Q,
              int64_t shares, int64_t threads) {
    parallel_for(G * shares, threads, [&](int64_t, int64_t item) {
        const int64_t g = item / shares, offset = g * n * Q;
        Tables<W> K(n);
        K.compute({values + g * strides[0], strides[1], strides[2]}, n);
        using Run = Backward<W>;
        std::vector<lanes> records(std::min(n, Run::CHUNK) * Run::RECORD);
        std::vector<lanes> checkpoints(Run::checkpoint_size(n)), grad_J(n * W);
        for (int64_t q = item % shares * LANES; q < Q; q += shares * LANES) {
            Queries at(lengths + (uneven ? g * Q : 0), Q, q);
            const lanes c = grad_log_Z ? load_some(grad_log_Z + g * Q + q, at.count) : lanes{};
            Run(K, at, h + offset, up + offset, grad_up ? grad_up + offset : nullptr, c, records,
                checkpoints)
                .run(grad_h + offset, grad_J.data());
            at.set_zero_from(grad_h + offset, at.longest, n);
        }
        for (int64_t t = 0; t < n; ++t)
            for (int64_t d = 1; d <= W; ++d)
                grad_values[item * n * W + t * W + d - 1] =
                    d > t ? 0.0f : across(grad_J[t * W + d - 1]) / UNIT;
    });
}
}  // namespace chain

extern "C" void qattn_chain_backward(const float* grad_up, const float* grad_log_Z, const float* h,
                                     const float* values, const int64_t* strides, const float* up,
                                     float* grad_h, float* grad_values, const int64_t* lengths,
                                     int64_t uneven, int64_t G, int64_t n, int64_t Q, int64_t w,
                                     int64_t shares, int64_t threads) {
    decltype(&chain::backward<1>) widths[] = {
        chain::backward<1>, chain::backward<2>, chain::backward<3>, chain::backward<4>,
        chain::backward<5>, chain::backward<6>, chain::backward<7>, chain::backward<8>};
    widths[w - 1](grad_up, grad_log_Z, h, values, strides, up, grad_h, grad_values, lengths, uneven,
                  G, n, Q, shares, threads);
}
