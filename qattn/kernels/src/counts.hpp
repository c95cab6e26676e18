// A potential on counts: the tree of products of qattn/exact/counts, for LANES queries side by side.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "lanes.hpp"
#include "parallel.hpp"

namespace counts {

constexpr float INF = std::numeric_limits<float>::infinity();
constexpr float SLACK = 5, LOSS = 10, ROOM = 1 << 20;  // as in qattn/exact/counts
constexpr int STEPS = 24;
constexpr int64_t SECTION = 64;  // positions whose factors are at most 2^64 together

// Level l has nodes[l] polynomials of degree[l], one after the other from offset[l].
struct Shape {
    int64_t depth = 0, size = 0, nodes[64], degree[64], offset[64];
    Shape(int64_t positions, int64_t max_count) {
        for (int64_t count = std::max<int64_t>(positions, 1), d = 1;; count = (count + 1) / 2) {
            nodes[depth] = count > 1 ? count + count % 2 : 1;
            degree[depth] = d, offset[depth] = size;
            size += nodes[depth++] * (d + 1);
            if (count == 1) return;
            d = std::min(2 * d, max_count);
        }
    }
};

// Degrees of children and parent, known to the compiler or, as 0, not.
template <int D, int E> struct Degrees {};

// out = a b or, where the children change by da and db, its change da b + a db; cut at degree e.
template <bool CHANGE, int D, int E>
INLINE void multiply(Degrees<D, E>, int d_, int e_, lanes* out, const lanes* a, const lanes* b,
                     const lanes* da, const lanes* db) {
    const int d = D ? D : d_, e = D ? E : e_;
    for (int c = 0; c <= e; ++c) {
        lanes sum = {};
        for (int r = c > d ? c - d : 0; r <= (c < d ? c : d); ++r) {
            if constexpr (CHANGE) sum += da[r] * b[c - r] + a[r] * db[c - r];
            else sum += a[r] * b[c - r];
        }
        out[c] = sum;
    }
}

// out_c = Σ_r parent_{c+r} b_r, the transpose of multiply, or its change.
template <bool CHANGE, int D, int E>
INLINE void correlate(Degrees<D, E>, int d_, int e_, lanes* out, const lanes* parent, const lanes* b,
                      const lanes* dparent, const lanes* db) {
    const int d = D ? D : d_, e = D ? E : e_;
    for (int c = 0; c <= d; ++c) {
        lanes sum = {};
        for (int r = 0; r <= (e - c < d ? e - c : d); ++r) {
            if constexpr (CHANGE) sum += dparent[c + r] * b[r] + parent[c + r] * db[r];
            else sum += parent[c + r] * b[r];
        }
        out[c] = sum;
    }
}

template <class Work> void with_degrees(int64_t d, int64_t e, Work work) {
    switch (64 * d + e) {
        case 64 * 1 + 1: return work(Degrees<1, 1>{});
        case 64 * 1 + 2: return work(Degrees<1, 2>{});
        case 64 * 2 + 2: return work(Degrees<2, 2>{});
        case 64 * 2 + 4: return work(Degrees<2, 4>{});
        case 64 * 4 + 4: return work(Degrees<4, 4>{});
        case 64 * 4 + 8: return work(Degrees<4, 8>{});
        case 64 * 8 + 8: return work(Degrees<8, 8>{});
        case 64 * 8 + 16: return work(Degrees<8, 16>{});
        case 64 * 16 + 16: return work(Degrees<16, 16>{});
        default: return work(Degrees<0, 0>{});
    }
}

// Products of all levels above the leaves, or their changes.
template <bool CHANGE> void products(const Shape& s, lanes* P, lanes* dP) {
    for (int64_t l = 0; l + 1 < s.depth; ++l) {
        const int64_t d = s.degree[l], e = s.degree[l + 1];
        lanes* all = (CHANGE ? dP : P) + s.offset[l + 1];
        with_degrees(d, e, [&](auto degrees) {
            for (int64_t i = 0; i < s.nodes[l] / 2; ++i) {
                const int64_t a = s.offset[l] + 2 * i * (d + 1), b = a + d + 1;
                multiply<CHANGE>(degrees, d, e, all + i * (e + 1), P + a, P + b, dP + a, dP + b);
            }
        });
        // A node 1 makes their number even.
        for (int64_t i = s.nodes[l] / 2 * (e + 1); i < s.nodes[l + 1] * (e + 1); ++i)
            all[i] = splat(!CHANGE && i == s.nodes[l] / 2 * (e + 1) ? 1.0f : 0.0f);
    }
}

// Cofactors of all levels below the root, or their changes.
template <bool CHANGE>
void cofactors(const Shape& s, const lanes* P, const lanes* dP, lanes* C, lanes* dC) {
    lanes* out = CHANGE ? dC : C;
    for (int64_t l = s.depth - 2; l >= 0; --l) {
        const int64_t d = s.degree[l], e = s.degree[l + 1];
        with_degrees(d, e, [&](auto degrees) {
            for (int64_t i = 0; i < s.nodes[l] / 2; ++i) {
                const int64_t up = s.offset[l + 1] + i * (e + 1);
                const int64_t a = s.offset[l] + 2 * i * (d + 1), b = a + d + 1;
                correlate<CHANGE>(degrees, d, e, out + a, C + up, P + b, dC + up, dP + b);
                correlate<CHANGE>(degrees, d, e, out + b, C + up, P + a, dC + up, dP + a);
            }
        });
    }
}

using Scratch = std::unique_ptr<lanes[]>;
INLINE Scratch scratch(int64_t size) { return Scratch(new lanes[size]); }  // not zeroed

INLINE bool any(ints mask) {
    int32_t found = 0;
    for (int i = 0; i < LANES; ++i) found |= mask[i];
    return found != 0;
}

INLINE lanes logarithm(lanes x) {
    for (int i = 0; i < LANES; ++i) x[i] = std::log(x[i]);
    return x;
}

// Queries of a group side by side: scores, potential, tilt and tree.
struct Block {
    int64_t n, max_count, positions, width;  // width: queries in use
    ints lengths, stuck;
    lanes bad;  // 0, or NaN in a query with NaN or infinity
    std::vector<lanes> log_phi, phi;
    Scratch scores, P, C;

    // The columns of h from `from` on; lanes without a query have no spins.
    Block(const float* h, const float* values, const int64_t* length, int64_t n, int64_t queries,
          int64_t max_count, int64_t tree_count, int64_t from)
        : n(n), max_count(std::min(max_count, n)), positions(0),
          width(std::min(LANES, queries - from)), lengths{}, stuck{}, bad{} {
        for (int64_t i = 0; i < width; ++i) {
            lengths[i] = (int32_t)length[from + i];
            positions = std::max(positions, length[from + i]);
        }
        scores = scratch(positions);
        for (int64_t t = 0; t < positions; ++t) {
            lanes x = load_some(h + t * queries + from, width);
            scores[t] = select(present(t), x + x, lanes{});
            bad += select(present(t), x * splat(0.0f), lanes{});
        }
        for (int64_t c = 0; c <= this->max_count; ++c) {
            bad += splat(values[c] == -INF ? 0.0f : values[c] * 0.0f);
        }
        ints broken = bad != bad;
        if (any(broken))
            for (int64_t t = 0; t < positions; ++t) scores[t] = select(broken, lanes{}, scores[t]);
        // A query with fewer spins than every allowed count attends to all of them.
        log_phi.assign(std::max(tree_count, this->max_count) + 1, splat(-INF));
        lanes most = splat(-INF);
        for (int64_t c = 0; c <= this->max_count; ++c) {
            float value = values[c] < INF ? values[c] : 0.0f;
            log_phi[c] = select(lengths >= (int32_t)c, splat(value), splat(-INF));
            most = maximum(most, log_phi[c]);
        }
        stuck = most == splat(-INF);
        for (int64_t c = 0; c <= this->max_count; ++c)
            log_phi[c] = select(stuck & (lengths == (int32_t)c), lanes{}, log_phi[c]);
    }

    ints present(int64_t t) const { return lengths > (int32_t)t; }

    // Σ_j min(1, x_j e^{-u}), at most twice the mean count; e^x to 6% by the bits of a float.
    lanes rough_mean(lanes u) const {
        lanes sum = {};
        for (int64_t t = 0; t < positions; ++t) {
            lanes x = maximum(minimum(scores[t] - u, lanes{}), splat(-80.0f));
            ints bits = __builtin_convertvector(x * splat(12102203.0f) + splat(1064872507.0f), ints);
            sum += select(present(t), (lanes)bits, lanes{});
        }
        return sum;
    }

    lanes tilt() const {
        lanes low = splat(INF), high = splat(-INF), u = {};
        for (int64_t t = 0; t < positions; ++t) {
            low = minimum(low, select(present(t), scores[t], splat(INF)));
            high = maximum(high, select(present(t), scores[t], splat(-INF)));
        }
        low = minimum(low - splat(3.0f), u);
        high = maximum(high + splat(3.0f + std::log((float)std::max<int64_t>(n, 1))), u);
        for (int step = 0; step < STEPS; ++step) {
            lanes mean = rough_mean(u), best = splat(-INF), fewest = {}, most = {};
            for (int64_t c = 0; c <= max_count; ++c)
                best = maximum(best, log_phi[c] + splat((float)c) * u);
            best -= splat(SLACK);
            for (int64_t c = 0; c <= max_count; ++c)
                most = select(log_phi[c] + splat((float)c) * u >= best, splat((float)c), most);
            for (int64_t c = max_count; c >= 0; --c)
                fewest = select(log_phi[c] + splat((float)c) * u >= best, splat((float)c), fewest);
            // The bound is convex in u: slope times distance bounds what a better u could save.
            lanes above = mean - most, below = fewest - mean;
            ints more = maximum(above * (high - u), below * (u - low)) > splat(LOSS);
            if (!any(more)) break;
            low = select(above > lanes{}, u, low);
            high = select(below > lanes{}, u, high);
            u = select(more, (low + high) * splat(0.5f), u);
        }
        return u;
    }

    // Products and cofactors at tilt u; returns Z. `log_Z` gets what they were divided by.
    lanes solve(const Shape& s, lanes u, lanes* log_Z) {
        P = scratch(s.size), C = scratch(s.size);
        const int64_t root = s.offset[s.depth - 1], e = s.degree[s.depth - 1];
        lanes total = {}, linear = {}, product = splat(1.0f);
        for (int64_t t = 0; t < s.nodes[0]; ++t) {
            if (t >= positions) { P[2 * t] = splat(1.0f), P[2 * t + 1] = lanes{}; continue; }
            lanes x = scores[t] - u, size = maximum(x, -x);
            lanes small = exponential(-size), big = splat(1.0f) / (splat(1.0f) + small);
            ints here = present(t), positive = x > lanes{};
            P[2 * t] = select(here, select(positive, small * big, big), splat(1.0f));
            P[2 * t + 1] = select(here, select(positive, big, small * big), lanes{});
            // log(e^{h-u} + e^{-h}), which the leaves were divided by.
            linear += select(here, maximum(x, lanes{}) - splat(0.5f) * scores[t], lanes{});
            product *= select(here, splat(1.0f) + small, splat(1.0f));
            if (log_Z && (t + 1) % SECTION == 0) {
                total += linear + logarithm(product);
                linear = lanes{}, product = splat(1.0f);
            }
        }
        products<false>(s, P.get(), nullptr);
        phi.assign(e + 1, lanes{});
        lanes scale = splat(-INF), Z = {};
        for (int64_t c = 0; c <= max_count; ++c)
            scale = maximum(scale, log_phi[c] + splat((float)c) * u);
        for (int64_t c = 0; c <= std::min(e, max_count); ++c) {
            phi[c] = exponential(log_phi[c] + splat((float)c) * u - scale);
            Z += P[root + c] * phi[c];
        }
        std::copy(phi.begin(), phi.end(), C.get() + root);
        cofactors<false>(s, P.get(), nullptr, C.get(), nullptr);
        if (log_Z) *log_Z = total + linear + logarithm(product) + logarithm(Z) + scale;
        return Z;
    }
};

// Trees are cut at the next power of two, for which the loops are compiled, or at K above 16.
INLINE int64_t tree_count(int64_t max_count) {
    int64_t power = 1;
    while (power < max_count) power *= 2;
    return power <= 16 ? power : max_count;
}

}  // namespace counts

// h, up: (groups, n, queries); values: (groups, max_count + 1); lengths: (1 or groups, queries);
// log_Z, tilt: (groups, queries); least: the same, the smallest number that has to hold. Of `up`,
// only entries at positions below the longest length of their LANES queries are written.
extern "C" void qattn_counts_forward(const float* h, const float* values, const int64_t* lengths,
                                     float* up, float* log_Z, float* tilt, float* least,
                                     int64_t groups, int64_t n, int64_t queries, int64_t max_count,
                                     int64_t length_rows, int64_t threads) {
    using namespace counts;
    const int64_t blocks = (queries + LANES - 1) / LANES, cut = tree_count(max_count);
    parallel_for(groups * blocks, threads, [&](int64_t, int64_t item) {
        const int64_t g = item / blocks, from = item % blocks * LANES;
        Block b(h + g * n * queries, values + g * (max_count + 1),
                lengths + (length_rows > 1 ? g * queries : 0), n, queries, max_count, cut, from);
        Shape s(b.positions, cut);
        lanes u = b.tilt(), log_value, Z = b.solve(s, u, &log_value), scale = splat(1.0f) / Z;
        // A query that allows no position up has no weights.
        lanes top = splat(-INF), smallest = Z;
        for (int64_t c = 1; c <= b.max_count; ++c) top = maximum(top, b.log_phi[c]);
        ints none = top == splat(-INF);
        float* column = up + g * n * queries + from;
        for (int64_t t = 0; t < b.positions; ++t) {
            lanes cofactor = b.C[2 * t + 1], weight = b.P[2 * t + 1] * cofactor;
            ints here = b.present(t);
            lanes least_here = minimum(cofactor, weight * splat(ROOM));
            smallest = select(here & ~none, minimum(smallest, least_here), smallest);
            store_some(column + t * queries, select(here, weight * scale + b.bad, lanes{}), b.width);
        }
        const int64_t at = g * queries + from;
        store_some(log_Z + at, select(b.stuck, splat(-INF), log_value) + b.bad, b.width);
        store_some(tilt + at, u, b.width);
        store_some(least + at, select(b.bad != b.bad, splat(1.0f), smallest), b.width);
    });
}

// grad_up or grad_log_Z is null. grad_values: (groups, blocks of LANES queries, max_count + 1).
extern "C" void qattn_counts_backward(const float* grad_up, const float* grad_log_Z, const float* h,
                                      const float* values, const int64_t* lengths,
                                      const float* tilt, float* grad_h, float* grad_values,
                                      int64_t groups, int64_t n, int64_t queries,
                                      int64_t max_count, int64_t length_rows, int64_t threads) {
    using namespace counts;
    const int64_t blocks = (queries + LANES - 1) / LANES, cut = tree_count(max_count);
    parallel_for(groups * blocks, threads, [&](int64_t, int64_t item) {
        const int64_t g = item / blocks, from = item % blocks * LANES, at = g * queries + from;
        Block b(h + g * n * queries, values + g * (max_count + 1),
                lengths + (length_rows > 1 ? g * queries : 0), n, queries, max_count, cut, from);
        Shape s(b.positions, cut);
        lanes Z = b.solve(s, load_some(tilt + at, b.width), nullptr), scale = splat(1.0f) / Z;
        const lanes *P = b.P.get(), *C = b.C.get(), *root = P + s.offset[s.depth - 1];
        const int64_t column = g * n * queries + from;
        lanes g_log_Z = scale;
        Scratch dP, dC;
        if (grad_up) {
            // The weights times f = Σ_j g_j (n_j - ⟨n_j⟩), position by position.
            dP = scratch(s.size), dC = scratch(s.size);
            for (int64_t t = 0; t < s.nodes[0]; ++t) {
                lanes slope = {};
                if (t < b.positions) {
                    slope = load_some(grad_up + column + t * queries, b.width);
                    slope = select(b.present(t), slope * scale, lanes{});
                }
                lanes down = P[2 * t] * C[2 * t], up = P[2 * t + 1] * C[2 * t + 1];
                dP[2 * t] = -slope * up * P[2 * t];
                dP[2 * t + 1] = slope * down * P[2 * t + 1];
            }
            products<true>(s, b.P.get(), dP.get());
            std::fill(dC.get() + s.offset[s.depth - 1], dC.get() + s.size, lanes{});
            cofactors<true>(s, P, dP.get(), b.C.get(), dC.get());
            root = dP.get() + s.offset[s.depth - 1];
        } else {
            g_log_Z = select(b.stuck, lanes{}, load_some(grad_log_Z + at, b.width)) * scale;
        }
        for (int64_t t = 0; t < b.positions; ++t) {
            const int64_t i = 2 * t, j = i + 1;
            lanes down = P[i] * C[i], up = P[j] * C[j], slope = (up - down) * g_log_Z;
            if (grad_up) {
                // E[f; n_j = 1] or -E[f; n_j = 0], whichever has the smaller terms.
                lanes f_up = dP[j] * C[j] + P[j] * dC[j], f_down = dP[i] * C[i] + P[i] * dC[i];
                slope = select(up < down, f_up, -f_down) * (scale + scale);
            }
            slope = select(b.present(t), slope + b.bad, lanes{});
            store_some(grad_h + column + t * queries, slope, b.width);
        }
        float* counts_out = grad_values + item * (max_count + 1);
        for (int64_t c = 0; c <= std::min(b.max_count, s.degree[s.depth - 1]); ++c) {
            lanes part = root[c] * b.phi[c] * g_log_Z + b.bad;
            for (int64_t i = 0; i < b.width; ++i) counts_out[c] += part[i];
        }
    });
}
