// J_jk = U_j U_k: nodes x on the real line, where the spins have the fields h + xU.
#pragma once
#include "quadrature.hpp"

namespace quadrature::positive {

constexpr int64_t MOST = 16;        // nodes around one reference point
constexpr int64_t TOO_MANY = 4096;  // nodes

// Factors e^{±(k - 7.5) D U_j}, k = 0 ... 15, by spin.
static void tabulate(Group& group, int64_t n) {
    group.table.resize(n * MOST);
    for (int64_t from = 0; from < MOST; from += LANES) {
        lanes offsets;
        for (int64_t k = 0; k < LANES; ++k) offsets[k] = ((float)(from + k) - 7.5f) * STEP;
        for (int64_t j = 0; j < n; ++j)
            store(&group.table[j * MOST + from], exponential(offsets * splat(group.U[j])));
    }
    float reach = 7.5f * STEP * group.largest;  // of the logarithm of one factor
    group.interval = std::max<int64_t>(1, std::min<int64_t>(16, (int64_t)(80.0f / (reach + 1e-6f))));
}

// Nodes center + (k - (number - 1)/2) D, in chunks of the same even size, at least 8 and at most 16,
// around reference points of their own.
struct Nodes {
    lanes center;
    int64_t number;
    int64_t chunks() const { return (number + MOST - 1) / MOST; }
    int64_t each() const { return number / chunks(); }
    lanes reference(int64_t c) const {
        return center + splat(((float)c - 0.5f * (float)(chunks() - 1)) * (float)each() * STEP);
    }
    void extend(int64_t least) {
        int64_t chunks = (least + MOST - 1) / MOST;
        number = chunks * std::max<int64_t>(8, (least + 2 * chunks - 1) / (2 * chunks) * 2);
    }
    float offset(int64_t k) const { return ((float)k - 0.5f * (float)(each() - 1)) * STEP; }
    float place(int64_t k) const { return ((float)k - 0.5f * (float)(number - 1)) * STEP; }
};

// Calls f.template operator()<K>() with the number of nodes of a chunk as a constant.
template <class F>
static void with_constant(int64_t K, F f) {
    switch (K) {
        case 8: f(std::integral_constant<int, 8>{}); break;
        case 10: f(std::integral_constant<int, 10>{}); break;
        case 12: f(std::integral_constant<int, 12>{}); break;
        case 14: f(std::integral_constant<int, 14>{}); break;
        default: f(std::integral_constant<int, 16>{});
    }
}

// Σ_j log(cosh(h + xU)/cosh b) at the nodes of a chunk.
template <int K>
static void log_ratios(const Tile& tile, doubles* out) {
    const Group& group = *tile.group;
    Product P[K];
    int64_t left = group.interval;
    for_spins(tile, [&](int64_t j, auto masked, ints here) {
        const float* t = &group.table[j * MOST + (MOST - K) / 2];
        lanes up = load(&tile.up[j * LANES]), down = load(&tile.down[j * LANES]);
#pragma GCC unroll 16
        for (int k = 0; k < K; ++k) {
            lanes d = up * splat(t[k]) + down * splat(t[K - 1 - k]);
            P[k].mantissa *= masked ? select(here, d, splat(1.0f)) : d;
        }
        if (--left == 0) {
            for (int k = 0; k < K; ++k) P[k].rescale();
            left = group.interval;
        }
    });
    for (int k = 0; k < K; ++k) P[k].rescale(), out[k] = P[k].log();
}

// Normalised weights of all nodes into w; returns log Z, and what the ends weigh.
struct Weighed {
    doubles log_Z;
    int64_t missing;  // about how many nodes beyond each end are not negligible
};

static Weighed weigh(Tile& tile, const Nodes& nodes, const Moments* known, std::vector<lanes>& w) {
    int64_t number = nodes.number, K = nodes.each();
    std::vector<doubles> log_w(number);
    for (int64_t c = 0; c < nodes.chunks(); ++c) {
        lanes x = nodes.reference(c);
        Moments at = known ? *known : independent(tile, x);
        doubles* part = &log_w[c * K];
        with_constant(K, [&](auto constant) { log_ratios<constant.value>(tile, part); });
        for (int64_t k = 0; k < K; ++k) {
            doubles place = wide(x) + (double)nodes.offset(k);
            part[k] += at.log_Z - place * place * 0.5;
        }
    }
    doubles peak = log_w[0];
    for (auto& x : log_w) peak = x > peak ? x : peak;
    // Weights of nodes beyond the ends fall at least as fast as those before them. The largest U
    // moves the weight of a small occupation outwards.
    float tilt = 2 * tile.group->largest * (0.5f * (float)number + 0.5f) * STEP;
    float missing = 0;
    for (int side = 0; side < 2; ++side) {
        doubles end = log_w[side ? number - 1 : 0], before = log_w[side ? number - 2 : 1];
        lanes fall = narrow(before - end), next = narrow(end - peak) - fall + splat(tilt);
        missing = std::max(missing, largest((next + splat(CUT)) / maximum(fall, splat(0.7f))));
    }
    w.resize(number);
    lanes sum = {};
    for (int64_t k = 0; k < number; ++k) {
        lanes x = narrow(log_w[k] - peak);
        w[k] = select(x < splat(-NEGLIGIBLE), lanes{}, exponential(x)) + (x - x);  // NaN stays NaN
        sum += w[k];
    }
    for (auto& x : w) x /= sum;
    doubles log_Z = peak + wide(logarithm(sum));
    for (int64_t l = 0; l < LANES; ++l)
        log_Z[l] += std::log(STEP / std::sqrt(2 * M_PI)) - tile.group->square[tile.lengths[l]] / 2;
    return {log_Z, (int64_t)std::ceil(std::min(missing, 64.0f))};
}

// Nodes that should cover all modes, which lie within half[l] of the center.
static Nodes enough(lanes center, lanes half, lanes variance, float largest_U) {
    lanes stiff = maximum(splat(1.0f) - variance, splat(0.25f));
    Nodes nodes{center, 8};
    for (;; nodes.extend(nodes.number + 2)) {
        float edge = 0.5f * (float)(nodes.number - 1) * STEP;
        lanes e = maximum(splat(edge) - half, lanes{});
        lanes next = stiff * splat(0.5f) * (e * e + e * splat(2 * STEP) - splat(STEP * STEP));
        next -= splat(2 * largest_U * (edge + STEP));
        if (nodes.number > TOO_MANY || !(largest(splat(CUT) - next) > 0)) return nodes;
    }
}

// Nodes for a tile, and the moments at the center if there is but one reference point.
static Nodes cover(Tile& tile, Moments& at) {
    const Group& group = *tile.group;
    lanes half, variance, center = {};
    if (largest(tile.prefix(group.square)) < 0.95f) {
        // A concave log weight: Newton's method for the only mode x = F(x), within a bracket.
        lanes high = tile.prefix(group.size), low = -high;
        for (int i = 0; i < ITERATIONS; ++i) {
            at = independent(tile, center);
            lanes error = at.slope - center, step = error / (splat(1.0f) - at.variance);
            half = magnitude(step), variance = at.variance;
            if (!(largest(half) > 0.5f * STEP)) break;
            low = select(error > lanes{}, center, low), high = select(error < lanes{}, center, high);
            lanes next = center + step, middle = (low + high) * splat(0.5f);
            ints inside = (next > low) & (next < high);
            center = i % 3 == 2 ? middle : select(inside, next, middle);
        }
    } else {
        // From both ends x = F(x), iterated, stops before the first mode on its way.
        lanes bounds[2];
        for (int side = 0; side < 2; ++side) {
            lanes next = tile.prefix(group.size) * splat(side ? 1.0f : -1.0f);
            for (int i = 0; i < ITERATIONS; ++i) {
                bounds[side] = next;
                at = independent(tile, bounds[side]);
                next = at.slope;
                if (!(largest(magnitude(next - bounds[side])) > 0.5f * STEP)) break;
            }
            variance = side ? maximum(variance, at.variance) : at.variance;
        }
        center = bounds[1], half = bounds[1] - bounds[0];
        if (largest(half) > 0.5f * STEP) {
            center = (bounds[0] + bounds[1]) * splat(0.5f), half *= splat(0.5f);
            at = independent(tile, center);
        }
    }
    return enough(center, half, variance, group.largest);
}

// Σ_k w_k n_jk into up, (spins, lanes).
template <int K>
static void mean(const Tile& tile, const lanes* w, float* sums) {
    for_spins(tile, [&](int64_t j, auto masked, ints here) {
        const float* t = &tile.group->table[j * MOST + (MOST - K) / 2];
        lanes up = load(&tile.up[j * LANES]), down = load(&tile.down[j * LANES]), sum = {};
#pragma GCC unroll 16
        for (int k = 0; k < K; ++k) {
            lanes d = up * splat(t[k]) + down * splat(t[K - 1 - k]);
            if (masked) d = select(here, d, splat(1.0f));
            sum += w[k] * reciprocal(d) * splat(t[k]);
        }
        store(&sums[j * LANES], load(&sums[j * LANES]) + up * sum);
    });
}

// f_k = Σ_j g_j n_jk.
template <int K>
static void project(const Tile& tile, const float* grad, lanes* f) {
    lanes F[K] = {};
    for_spins(tile, [&](int64_t j, auto masked, ints here) {
        const float* t = &tile.group->table[j * MOST + (MOST - K) / 2];
        lanes up = load(&tile.up[j * LANES]), down = load(&tile.down[j * LANES]);
        lanes g = load(&grad[j * LANES]) * up;
#pragma GCC unroll 16
        for (int k = 0; k < K; ++k) {
            lanes d = up * splat(t[k]) + down * splat(t[K - 1 - k]);
            if (masked) d = select(here, d, splat(1.0f));
            F[k] += g * reciprocal(d) * splat(t[k]);
        }
    });
    for (int k = 0; k < K; ++k) f[k] = F[k];
}

// Σ_k n_jk (moved_k + w_k g_j (1 - n_jk)), and the same with x_k - x.
template <int K>
static void derive(const Tile& tile, const float* grad, const lanes* w, const lanes* moved,
                   const float* offsets, lanes x, float* sums) {
    for_spins(tile, [&](int64_t j, auto masked, ints here) {
        const float* t = &tile.group->table[j * MOST + (MOST - K) / 2];
        lanes up = load(&tile.up[j * LANES]), down = load(&tile.down[j * LANES]);
        lanes g = load(&grad[j * LANES]) * down, sum = {}, torque = {};
#pragma GCC unroll 16
        for (int k = 0; k < K; ++k) {
            lanes d = up * splat(t[k]) + down * splat(t[K - 1 - k]);
            if (masked) d = select(here, d, splat(1.0f));
            lanes r = reciprocal(d);
            lanes term = r * splat(t[k]) * (moved[k] + w[k] * (g * (r * splat(t[K - 1 - k]))));
            sum += term, torque += term * splat(offsets[k]);
        }
        sum *= up, torque *= up;
        float* to = &sums[2 * j * LANES];
        store(to, load(to) + sum);
        store(to + LANES, load(to + LANES) + torque + x * sum);
    });
}

static bool forward(Tile& tile, std::vector<float>& up, doubles& log_Z, Nodes& nodes) {
    Moments at;
    nodes = cover(tile, at);
    std::vector<lanes> w;
    for (;;) {
        if (nodes.number > TOO_MANY) return false;
        Weighed found = weigh(tile, nodes, nodes.chunks() == 1 ? &at : nullptr, w);
        log_Z = found.log_Z;
        if (found.missing == 0) break;
        nodes.extend(nodes.number + 2 * found.missing);
    }
    up.assign(tile.longest * LANES, 0);
    int64_t K = nodes.each();
    for (int64_t c = 0; c < nodes.chunks(); ++c) {
        const lanes* part = &w[c * K];
        if (negligible(part, K)) continue;
        if (nodes.chunks() > 1) independent(tile, nodes.reference(c));
        with_constant(K, [&](auto k) { mean<k.value>(tile, part, up.data()); });
    }
    return true;
}

// Sums of `derive` over all nodes; returns Σ_k moved_k x_k.
static lanes backward(Tile& tile, const Nodes& nodes, const float* grad, lanes grad_log_Z,
                      std::vector<float>& sums) {
    int64_t number = nodes.number, K = nodes.each(), chunks = nodes.chunks();
    std::vector<lanes> w, moved(number);
    Moments at = independent(tile, nodes.reference(0));
    weigh(tile, nodes, chunks == 1 ? &at : nullptr, w);
    for (int64_t c = 0; c < chunks; ++c) {
        if (negligible(&w[c * K], K)) continue;
        if (chunks > 1) independent(tile, nodes.reference(c));
        with_constant(K, [&](auto k) { project<k.value>(tile, grad, &moved[c * K]); });
    }
    lanes mean = {}, place = {};
    for (int64_t k = 0; k < number; ++k) mean += w[k] * moved[k];
    for (int64_t k = 0; k < number; ++k) {
        moved[k] = w[k] * (moved[k] - mean + grad_log_Z);
        place += moved[k] * (nodes.center + splat(nodes.place(k)));
    }
    float offsets[MOST];
    for (int64_t k = 0; k < K; ++k) offsets[k] = nodes.offset(k);
    sums.assign(2 * tile.longest * LANES, 0);
    for (int64_t c = 0; c < chunks; ++c) {
        int64_t from = c * K;
        if (negligible(&w[from], K)) continue;
        lanes x = nodes.reference(c);
        if (chunks > 1) independent(tile, x);
        with_constant(K, [&](auto k) {
            derive<k.value>(tile, grad, &w[from], &moved[from], offsets, x, sums.data());
        });
    }
    return place;
}

}  // namespace quadrature::positive
