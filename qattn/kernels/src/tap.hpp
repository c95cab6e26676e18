// Ising models drawn spin by spin, each from a logit that TAP's free energies of the later spins
// give (simulators/autoregressive/tap/logit.py has the formulas), a register of reads at a time.
#pragma once
#include <algorithm>
#include <vector>

#include "lanes.hpp"
#include "parallel.hpp"

namespace tap {

#define MEMBER inline __attribute__((always_inline))

// The two signs of the spin that is drawn, and rows of a product that are summed together.
constexpr int SIGNS = 2;
#if defined(__AVX512F__)
constexpr int ROWS = 4;
#else
constexpr int ROWS = 2;
#endif

// What is the same for all reads of a group.
struct Net {
    const float* J;        // (n, n)
    const float* squares;  // (n, n)
    const float* W;        // (steps + 1, n, n), J of each step and of the free energy; null: J
    const float* alpha;    // (steps, n)
    const float* gamma;    // (steps + 1, n)
    const float* readout;  // (n)
    const float* g;        // (n, n), or null
    const float* v;        // (n, n)
    int64_t n, steps;

    const float* couplings(int64_t t) const { return W ? W + t * n * n : J; }
};

// tanh of a field, 1 - tanh² and ln cosh - H tanh H; the first is exactly odd, the others even.
struct Spin {
    lanes mean, variance, entropy;

    MEMBER explicit Spin(lanes H) {
        lanes size = magnitude(H), e = exponential(splat(-2.0f) * size);
        lanes r = reciprocal(splat(1.0f) + e);
        mean = (lanes)((ints)((splat(1.0f) - e) * r) | ((ints)H & (int32_t)0x80000000));
        variance = splat(4.0f) * e * r * r;
        entropy = splat(2.0f) * size * e * r;
        weight = splat(1.0f) + e;
    }

    MEMBER lanes whole_entropy() const { return entropy + logarithm(weight); }

private:
    lanes weight;
};

// Reads side by side, (n), and their later spins with both signs of the one drawn, (n, SIGNS).
struct Tile {
    std::vector<lanes> field, mode;  // ξ; w of the mode that stands out
    std::vector<lanes> H, mu, m, variance;
    lanes sum[SIGNS];  // X = Σ w v
    lanes step;        // δ
    ints length;       // number of spins
    int64_t end;       // of the longest

    void resize(int64_t n) {
        for (auto* x : {&field, &mode}) x->assign(n, lanes{});
        for (auto* x : {&H, &mu, &m, &variance}) x->assign(n * SIGNS, lanes{});
    }

    MEMBER ints present(int64_t j) const { return ints{} + (int32_t)j < length; }

    // Means and variances from `first` on; entropies take the place of μ at the end.
    template <bool last>
    void means(int64_t first) {
        sum[0] = sum[1] = lanes{};
        for (int64_t j = first; j < end; ++j)
            for (int s = 0; s < SIGNS; ++s) {
                int64_t at = j * SIGNS + s;
                Spin spin(H[at]);
                ints there = present(j);
                m[at] = select(there, spin.mean, lanes{});
                variance[at] = select(there, spin.variance, lanes{});
                sum[s] += mode[j] * variance[at];
                if (last) mu[at] = select(there, spin.whole_entropy(), lanes{});
            }
    }

    // Calls each(j, sign, Σ_k W_jk m_k, Σ_k J²_jk variance_k); the latter only if asked for.
    template <bool reaction, class Each>
    void products(const Net& net, int64_t t, int64_t first, Each each) const {
        int64_t j = first;
        for (; j + ROWS <= end; j += ROWS) rows<ROWS, reaction>(net, t, first, j, each);
        for (; j < end; ++j) rows<1, reaction>(net, t, first, j, each);
    }

    template <int count, bool reaction, class Each>
    MEMBER void rows(const Net& net, int64_t t, int64_t first, int64_t j, Each each) const {
        lanes sum[count][SIGNS] = {}, back[count][SIGNS] = {};
        const float *W = net.couplings(t) + j * net.n, *K = net.squares + j * net.n;
        for (int64_t k = first; k < end; ++k)
            for (int r = 0; r < count; ++r)
                for (int s = 0; s < SIGNS; ++s) {
                    sum[r][s] += splat(W[r * net.n + k]) * m[k * SIGNS + s];
                    if (reaction) back[r][s] += splat(K[r * net.n + k]) * variance[k * SIGNS + s];
                }
        for (int r = 0; r < count; ++r)
            for (int s = 0; s < SIGNS; ++s) each(j + r, s, sum[r][s], back[r][s]);
    }

    // The logits of spin i.
    lanes logits(const Net& net, int64_t i) {
        const int64_t first = i + 1;
        const float* R = net.couplings(net.steps) + i * net.n;
        auto start = [&](int64_t j, int s) { return field[j] + splat(s ? -R[j] : R[j]); };
        for (int64_t j = first; j < end; ++j)
            for (int s = 0; s < SIGNS; ++s)
                H[j * SIGNS + s] = start(j, s), mu[j * SIGNS + s] = lanes{};
        for (int64_t t = 0; t < net.steps; ++t) {
            means<false>(first);
            lanes rings[SIGNS];
            for (int s = 0; s < SIGNS; ++s) rings[s] = sum[s] * sum[s] / (splat(1.0f) + sum[s]);
            auto next = [&](int64_t j, int s, lanes owed, lanes back) {
                int64_t at = j * SIGNS + s;
                lanes alpha = splat(net.alpha[t * net.n + j]) * step;
                back -= mode[j] * rings[s];
                lanes reaction = splat(net.gamma[t * net.n + j]) * mu[at] * back;
                H[at] += alpha * (start(j, s) - H[at] + owed - reaction);
                mu[at] += alpha * (m[at] - mu[at]);
            };
            if (t == 0) products<false>(net, t, first, next);  // μ is 0
            else products<true>(net, t, first, next);
        }
        means<true>(first);
        // Terms of both signs are subtracted spin by spin, so that little is lost by rounding.
        lanes difference = {}, rest = {};
        products<true>(net, net.steps, first, [&](int64_t j, int s, lanes owed, lanes back) {
            int64_t at = j * SIGNS + s;
            lanes gamma = splat(0.25f * net.gamma[net.steps * net.n + j]);
            lanes term = mu[at] + m[at] * (start(j, s) + splat(0.5f) * owed) +
                         gamma * variance[at] * back;
            if (s == 0) {
                mu[at] = term;
                return;
            }
            difference += mu[at - 1] - term;
            if (net.g) {
                lanes v = splat(net.v[i * net.n + j]), g = splat(net.g[i * net.n + j]);
                lanes both = Spin(v * H[at - 1]).mean + Spin(v * H[at]).mean;
                rest += select(present(j), g * both, lanes{});
            }
        });
        lanes rings[SIGNS];
        for (int s = 0; s < SIGNS; ++s)
            rings[s] = sum[s] - splat(0.5f) * sum[s] * sum[s] - logarithm(splat(1.0f) + sum[s]);
        difference += splat(0.5f) * (rings[0] - rings[1]);
        return splat(2.0f) * field[i] + splat(net.readout[i]) * difference + rest;
    }
};

// All reads of a call.
struct Reads {
    const float* h;         // (groups, n, queries)
    const float* step;      // (groups, queries)
    const float* mode;      // (groups, n, queries); null: 0
    const int32_t* lengths; // (groups, queries); null: n
    const float* uniform;   // (n, groups, columns); null: the spins are given
    const uint8_t* wanted;  // (n): whose logits; null: all
    float* spins;           // (groups, n, columns)
    float* logits;          // (groups, n, columns), or null
    double* log_q;          // (groups, columns)
    int64_t groups, n, queries, reads;

    template <class OfGroup>
    void run(int64_t threads, OfGroup net) const {
        int64_t columns = queries * reads, tiles = (columns + LANES - 1) / LANES;
        std::vector<Tile> scratch(threads);
        parallel_for(groups * tiles, threads, [&](int64_t thread, int64_t item) {
            Tile& tile = scratch[thread];
            int64_t group = item / tiles, first = item % tiles * LANES;
            begin(tile, group, first, std::min(LANES, columns - first));
            draw(tile, net(group), group, first, columns);
        });
    }

    void begin(Tile& tile, int64_t group, int64_t first, int64_t count) const {
        tile.resize(n);
        tile.length = ints{}, tile.step = lanes{}, tile.end = 0;
        for (int64_t i = 0; i < count; ++i) {
            int64_t query = (first + i) / reads;
            int32_t length = lengths ? lengths[group * queries + query] : (int32_t)n;
            tile.length[i] = length;
            tile.end = std::max<int64_t>(tile.end, length);
            tile.step[i] = step[group * queries + query];
            for (int64_t j = 0; j < n; ++j) {
                int64_t place = (group * n + j) * queries + query;
                tile.field[j][i] = h[place];
                if (mode) tile.mode[j][i] = mode[place];
            }
        }
    }

    void draw(Tile& tile, const Net& net, int64_t group, int64_t first, int64_t columns) const {
        double total[LANES] = {};
        int64_t here = std::min(LANES, columns - first);
        for (int64_t i = 0; i < n; ++i) {
            bool asked = i < tile.end && (!wanted || wanted[i]);
            lanes logit = asked ? tile.logits(net, i) : lanes{}, spin;
            int64_t place = (group * n + i) * columns + first;
            if (uniform) {
                lanes u = load_some(uniform + (i * groups + group) * columns + first, here);
                ints up = u * (splat(1.0f) + exponential(-logit)) < splat(1.0f);
                spin = select(up, splat(1.0f), splat(-1.0f));
                spin = select(tile.present(i), spin, lanes{});
                store_some(spins + place, spin, here);
            } else {
                spin = load_some(spins + place, here);
            }
            if (logits) store_some(logits + place, logit, here);
            if (asked) {
                // ln σ(x) = min(x, 0) - ln(1 + e^-|x|), nothing for absent spins.
                lanes x = spin * logit;
                lanes term = minimum(x, lanes{});
                term -= logarithm(splat(1.0f) + exponential(-magnitude(x)));
                term = select(spin == lanes{}, lanes{}, term);
                for (int64_t lane = 0; lane < LANES; ++lane) total[lane] += term[lane];
            }
            for (int64_t j = i + 1; j < tile.end; ++j)
                tile.field[j] += splat(net.J[i * n + j]) * spin;
        }
        for (int64_t lane = 0; lane < here; ++lane)
            log_q[group * columns + first + lane] = total[lane];
    }
};

#undef MEMBER

}  // namespace tap

extern "C" {

// J and its squares are (groups, n, n), W (groups, steps + 1, n, n).
void qattn_tap(const float* J, const float* squares, const float* W, const float* alpha,
               const float* gamma, const float* readout, const float* g, const float* v,
               int64_t steps, const float* h, const float* step, const float* mode,
               const int32_t* lengths, const float* uniform, const uint8_t* wanted, float* spins,
               float* logits, double* log_q, int64_t groups, int64_t n, int64_t queries, int64_t reads,
               int64_t threads) {
    tap::Reads{h,      step,  mode,   lengths, uniform, wanted, spins,
               logits, log_q, groups, n,       queries, reads}
        .run(threads, [=](int64_t group) {
            const float* of_group = W ? W + group * (steps + 1) * n * n : nullptr;
            return tap::Net{J + group * n * n, squares + group * n * n, of_group, alpha, gamma,
                            readout, g, v, n, steps};
        });
}

}  // extern "C"
