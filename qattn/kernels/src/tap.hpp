// Ising models drawn spin by spin, each from a logit that TAP's equations of the later spins give
// (simulators/autoregressive/tap.py has the formulas), a tile of reads at a time.
#pragma once
#include <algorithm>
#include <vector>

#include "lanes.hpp"
#include "parallel.hpp"

namespace tap {

#define MEMBER inline __attribute__((always_inline))

// Vectors of a tile, and rows of a product that are summed together: as registers allow.
constexpr int VECTORS = 2;
#if defined(__AVX512F__)
constexpr int ROWS = 4;
#else
constexpr int ROWS = 2;
#endif
constexpr int64_t WIDTH = LANES * VECTORS;

// Factors between 1 and 2 whose product stays a normal number.
constexpr int64_t FACTORS = 64;

// tanh x to 1e-7, exactly odd.
INLINE lanes tangent(lanes x) {
    lanes size = magnitude(x);
    lanes y = splat(1.0f) - splat(2.0f) * reciprocal(exponential(size + size) + splat(1.0f));
    return (lanes)((ints)y | ((ints)x & (int32_t)0x80000000));
}

// What is the same for all reads of a group.
struct Net {
    const float* J;        // (n, n)
    const float* squares;  // (n, n)
    const float* W;        // (steps + 1, n, n), couplings of each step and of the readout; null: J
    const float* alpha;    // (steps, n)
    const float* gamma;    // (steps, n)
    const float* readout;  // (n)
    const float* g;        // (n, n), or null
    const float* v;        // (n, n)
    int64_t n, steps;

    const float* couplings(int64_t t) const { return W ? W + t * n * n : J; }
};

// Reads side by side; (n, VECTORS) each.
struct Tile {
    std::vector<lanes> field, H, mu, m, variance;
    lanes damping[VECTORS];  // what multiplies α
    ints length[VECTORS];    // number of spins
    int64_t end;             // of the longest

    void resize(int64_t n) {
        for (auto* x : {&field, &H, &mu, &m, &variance}) x->assign(n * VECTORS, lanes{});
    }

    MEMBER ints present(int64_t j, int v) const { return ints{} + (int32_t)j < length[v]; }

    // Means and variances of the spins from `first` on.
    void means(int64_t first) {
        for (int64_t j = first; j < end; ++j)
            for (int v = 0; v < VECTORS; ++v) {
                lanes x = tangent(H[j * VECTORS + v]);
                ints there = present(j, v);
                m[j * VECTORS + v] = select(there, x, lanes{});
                variance[j * VECTORS + v] = select(there, splat(1.0f) - x * x, lanes{});
            }
    }

    // Brings the fields of `rows` spins from j on to the next step, the reaction only if there are
    // means before these.
    template <int rows, bool reaction>
    MEMBER void update(const Net& net, int64_t t, int64_t first, int64_t j) {
        lanes sum[rows][VECTORS] = {}, back[rows][VECTORS] = {};
        const float *W = net.couplings(t) + j * net.n, *K = net.squares + j * net.n;
        for (int64_t k = first; k < end; ++k)
            for (int r = 0; r < rows; ++r)
                for (int v = 0; v < VECTORS; ++v) {
                    sum[r][v] += splat(W[r * net.n + k]) * m[k * VECTORS + v];
                    if (reaction)
                        back[r][v] += splat(K[r * net.n + k]) * variance[k * VECTORS + v];
                }
        for (int r = 0; r < rows; ++r)
            for (int v = 0; v < VECTORS; ++v) {
                int64_t at = (j + r) * VECTORS + v;
                lanes alpha = splat(net.alpha[t * net.n + j + r]) * damping[v];
                lanes step = field[at] - H[at] + sum[r][v];
                if (reaction) step -= splat(net.gamma[t * net.n + j + r]) * mu[at] * back[r][v];
                H[at] += alpha * step;
                mu[at] += alpha * (m[at] - mu[at]);
            }
    }

    template <bool reaction>
    void iterate(const Net& net, int64_t t, int64_t first) {
        int64_t j = first;
        for (; j + ROWS <= end; j += ROWS) update<ROWS, reaction>(net, t, first, j);
        for (; j < end; ++j) update<1, reaction>(net, t, first, j);
    }

    // The logits of spin i, from the fields of the spins after it.
    void logits(const Net& net, int64_t i, lanes (&out)[VECTORS]) {
        std::copy(field.begin() + (i + 1) * VECTORS, field.begin() + end * VECTORS,
                  H.begin() + (i + 1) * VECTORS);
        std::fill(mu.begin(), mu.end(), lanes{});
        for (int64_t t = 0; t < net.steps; ++t) {
            means(i + 1);
            if (t == 0) iterate<false>(net, t, i + 1);
            else iterate<true>(net, t, i + 1);
        }
        for (int v = 0; v < VECTORS; ++v) out[v] = owed(net, i, v);
    }

    // ln cosh x = |x| + ln(1 + e^(-2|x|)) - ln 2, of which the logarithms are taken together.
    MEMBER lanes owed(const Net& net, int64_t i, int v) const {
        const float* J = net.couplings(net.steps) + i * net.n;
        lanes sum = {}, rest = {};
        for (int64_t first = i + 1; first < end; first += FACTORS) {
            lanes over = splat(1.0f), under = splat(1.0f);
            for (int64_t j = first; j < std::min(end, first + FACTORS); ++j) {
                lanes x = H[j * VECTORS + v];
                ints there = present(j, v);
                lanes coupling = select(there, splat(J[j]), lanes{});
                lanes up = magnitude(x + coupling), down = magnitude(x - coupling);
                sum += up - down;
                over *= splat(1.0f) + exponential(splat(-2.0f) * up);
                under *= splat(1.0f) + exponential(splat(-2.0f) * down);
                if (net.g) {
                    int64_t at = i * net.n + j;
                    lanes more = splat(net.g[at]) * tangent(splat(net.v[at]) * x);
                    rest += select(there, more, lanes{});
                }
            }
            sum += logarithm(over) - logarithm(under);
        }
        return splat(2.0f) * field[i * VECTORS + v] + splat(net.readout[i]) * sum + rest;
    }
};

// All reads of a call.
struct Reads {
    const float* h;            // (groups, n, queries)
    const float* damping;      // (groups, queries), what multiplies α
    const int32_t* lengths;    // (groups, queries); null: n
    const float* uniform;      // (n, groups, columns); null: the spins are given
    const uint8_t* wanted;     // (n): whose logits; null: all
    float* spins;              // (groups, n, columns)
    float* logits;             // (groups, n, columns), or null
    double* log_q;             // (groups, columns)
    int64_t groups, n, queries, reads;

    template <class OfGroup>
    void run(int64_t threads, OfGroup net) const {
        int64_t columns = queries * reads, tiles = (columns + WIDTH - 1) / WIDTH;
        std::vector<Tile> scratch(threads);
        parallel_for(groups * tiles, threads, [&](int64_t thread, int64_t item) {
            Tile& tile = scratch[thread];
            int64_t group = item / tiles, first = item % tiles * WIDTH;
            begin(tile, group, first, columns);
            draw(tile, net(group), group, first, columns);
        });
    }

    void begin(Tile& tile, int64_t group, int64_t first, int64_t columns) const {
        tile.resize(n);
        tile.end = 0;
        for (int v = 0; v < VECTORS; ++v) {
            tile.length[v] = ints{}, tile.damping[v] = lanes{};
            for (int64_t i = 0; i < LANES; ++i) {
                int64_t column = first + v * LANES + i;
                if (column >= columns) break;
                int64_t query = column / reads;
                int32_t length = lengths ? lengths[group * queries + query] : (int32_t)n;
                tile.length[v][i] = length;
                tile.end = std::max<int64_t>(tile.end, length);
                tile.damping[v][i] = damping[group * queries + query];
                for (int64_t j = 0; j < n; ++j)
                    tile.field[j * VECTORS + v][i] = h[(group * n + j) * queries + query];
            }
        }
    }

    void draw(Tile& tile, const Net& net, int64_t group, int64_t first, int64_t columns) const {
        double total[WIDTH] = {};
        for (int64_t i = 0; i < n; ++i) {
            bool asked = i < tile.end && (!wanted || wanted[i]);
            lanes logit[VECTORS] = {}, spin[VECTORS] = {};
            if (asked) tile.logits(net, i, logit);
            for (int v = 0; v < VECTORS; ++v) {
                int64_t column = first + v * LANES, here = columns - column;
                if (here <= 0) break;
                int64_t place = (group * n + i) * columns + column;
                if (uniform) {
                    lanes u = load_some(uniform + (i * groups + group) * columns + column, here);
                    ints up = u * (splat(1.0f) + exponential(-logit[v])) < splat(1.0f);
                    spin[v] = select(up, splat(1.0f), splat(-1.0f));
                    spin[v] = select(tile.present(i, v), spin[v], lanes{});
                    store_some(spins + place, spin[v], here);
                } else {
                    spin[v] = load_some(spins + place, here);
                }
                if (logits) store_some(logits + place, logit[v], here);
                // ln σ(x) = min(x, 0) - ln(1 + e^-|x|), nothing for absent spins.
                lanes x = spin[v] * logit[v], term = minimum(x, lanes{});
                term -= logarithm(splat(1.0f) + exponential(-magnitude(x)));
                if (asked)
                    for (int64_t lane = 0; lane < LANES; ++lane)
                        total[v * LANES + lane] += spin[v][lane] == 0.0f ? 0.0f : term[lane];
            }
            for (int64_t j = i + 1; j < tile.end; ++j)
                for (int v = 0; v < VECTORS; ++v)
                    tile.field[j * VECTORS + v] += splat(net.J[i * n + j]) * spin[v];
        }
        for (int64_t lane = 0; lane < WIDTH && first + lane < columns; ++lane)
            log_q[group * columns + first + lane] = total[lane];
    }
};

#undef MEMBER

}  // namespace tap

extern "C" {

// J and its squares are (groups, n, n), W (groups, steps + 1, n, n).
void qattn_tap(const float* J, const float* squares, const float* W, const float* alpha,
               const float* gamma, const float* readout, const float* g, const float* v,
               int64_t steps, const float* h, const float* damping, const int32_t* lengths,
               const float* uniform, const uint8_t* wanted, float* spins, float* logits,
               double* log_q, int64_t groups, int64_t n, int64_t queries, int64_t reads,
               int64_t threads) {
    tap::Reads{h,      damping, lengths, uniform, wanted,  spins,
               logits, log_q, groups,  n,       queries, reads}
        .run(threads, [=](int64_t group) {
            const float* of_group = W ? W + group * (steps + 1) * n * n : nullptr;
            return tap::Net{J + group * n * n, squares + group * n * n, of_group, alpha, gamma,
                            readout, g, v, n, steps};
        });
}

}  // extern "C"
