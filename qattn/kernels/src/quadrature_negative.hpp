// J_jk = -U_j U_k: nodes origin + iy, y >= 0, where the spins have the fields b + iyU,
// b = h + origin U. The other half of the line gives the complex conjugate.
#pragma once
#include "quadrature.hpp"

namespace quadrature::negative {

constexpr float EXPONENT = 17.0f;   // images and the rest of the line weigh less than e^-EXPONENT
constexpr float ENOUGH = 15.0f;     // nodes at the end that weigh less are not used
constexpr int64_t MOST = 8;         // nodes at a time
constexpr int64_t TOO_MANY = 1024;
constexpr float SMALLEST_SIGN = 0.02f;

// What the tables of a group hold: cos(2y_kU_j) for all k, then sin(2y_kU_j), by spin.
struct Nodes {
    float step;
    int64_t number, row;
};

static Nodes tabulate(Group& group, int64_t n, float period) {
    float step = (float)(2 * M_PI) / period;
    int64_t number = (int64_t)std::ceil(std::sqrt(2 * EXPONENT) / step) + 1;
    Nodes nodes{step, number, (number + LANES - 1) / LANES * LANES};
    group.table.resize(n * 2 * nodes.row);
    lanes count;
    for (int64_t k = 0; k < LANES; ++k) count[k] = (float)k;
    for (int64_t j = 0; j < n; ++j)
        for (int64_t k = 0; k < nodes.row; k += LANES) {
            float* to = &group.table[j * 2 * nodes.row + k];
            lanes cosine, sine, angle = (count + splat((float)k)) * splat(step);
            sine_cosine(angle * splat(2 * group.U[j]), sine, cosine);
            store(to, cosine), store(to + nodes.row, sine);
        }
    return nodes;
}

template <class F>
static void with_constant(int64_t K, F f) {
    switch (K) {
        case 1: f(std::integral_constant<int, 1>{}); break;
        case 2: f(std::integral_constant<int, 2>{}); break;
        case 3: f(std::integral_constant<int, 3>{}); break;
        case 4: f(std::integral_constant<int, 4>{}); break;
        case 5: f(std::integral_constant<int, 5>{}); break;
        case 6: f(std::integral_constant<int, 6>{}); break;
        case 7: f(std::integral_constant<int, 7>{}); break;
        default: f(std::integral_constant<int, 8>{});
    }
}

// Calls f(constant number, first) for the nodes, a few at a time.
template <class F>
static void in_chunks(int64_t number, F f) {
    for (int64_t first = 0; first < number; first += MOST)
        with_constant(std::min(MOST, number - first), [&](auto K) { f(K, first); });
}

// origin = -c, c = F = Σ U tanh(h - cU): a monotone equation. Any c serves: the better, the fewer
// nodes. Also the distance of the images that e^-EXPONENT asks for.
struct Saddle {
    lanes origin;
    float period;
};

static Saddle saddle(Tile& tile) {
    lanes high = tile.prefix(tile.group->size), low = -high, c = {};
    for (int i = 0;; ++i) {
        Moments at = independent<true>(tile, -c);
        lanes error = c - at.slope;
        float missed = largest(magnitude(error));
        if (!(missed > 0.3f) || i == ITERATIONS) {
            float spread = std::max(0.0f, largest(at.spread));
            float period = std::sqrt(2 * (EXPONENT + 1) * (1 + spread)) + 2 * tile.group->largest;
            return {-c, period + std::max(0.0f, missed)};
        }
        low = select(error < lanes{}, c, low), high = select(error > lanes{}, c, high);
        lanes next = c - error / (splat(1.0f) + at.variance);
        lanes middle = (low + high) * splat(0.5f);
        c = i % 3 == 2 ? middle : select((next > low) & (next < high), next, middle);
    }
}

// Π_j (1 - n_j + n_j e^{2iyU_j}).
template <int K>
static void products(const Tile& tile, const Nodes& nodes, int64_t first, lanes* real, lanes* imag) {
    lanes R[K], I[K];
    for (int k = 0; k < K; ++k) R[k] = splat(1.0f), I[k] = lanes{};
    for_spins(tile, [&](int64_t j, auto masked, ints here) {
        const float* cosine = &tile.group->table[j * 2 * nodes.row + first];
        const float* sine = cosine + nodes.row;
        lanes up = load(&tile.up[j * LANES]), down = load(&tile.down[j * LANES]);
#pragma GCC unroll 8
        for (int k = 0; k < K; ++k) {
            lanes x = down + up * splat(cosine[k]), y = up * splat(sine[k]);
            if (masked) x = select(here, x, splat(1.0f));
            lanes next = R[k] * x - I[k] * y;
            I[k] = R[k] * y + I[k] * x, R[k] = next;
        }
    });
    for (int k = 0; k < K; ++k) real[k] = R[k], imag[k] = I[k];
}

// n_jk = up (up e^{...} + down e^{...})/d: its numerator over `up` and 1/d.
INLINE void occupation(lanes up, lanes down, lanes both, float cosine, float sine, lanes square,
                       bool masked, ints here, lanes& real, lanes& imag, lanes& inverse) {
    lanes d = square + both * splat(cosine);
    if (masked) d = select(here, d, splat(1.0f));
    // At a pole the weight is 0, and what their product is does not show.
    inverse = reciprocal(select(d == lanes{}, splat(1e-30f), d));
    real = up + down * splat(cosine), imag = down * splat(sine);
}

// Complex weights, real and imaginary parts in turn.
struct Weights {
    std::vector<lanes> real, imag;
    doubles log_Z;
    bool sound;  // whether their sum is no small rest of large numbers
    int64_t number;
};

static Weights weigh(Tile& tile, const Nodes& nodes, int64_t number, lanes origin,
                     const Moments& at) {
    Weights w;
    w.real.resize(number), w.imag.resize(number);
    in_chunks(number, [&](auto K, int64_t first) {
        products<K.value>(tile, nodes, first, &w.real[first], &w.imag[first]);
    });
    doubles shift = wide(origin);
    for (int64_t l = 0; l < LANES; ++l) shift[l] -= tile.group->sum[tile.lengths[l]];
    lanes sum = {}, sizes = {};
    w.number = 1;
    for (int64_t k = 0; k < number; ++k) {
        double y = (double)k * nodes.step;
        doubles phase = shift * y;
        // To within a turn, in double: the phase may be large.
        doubles turns = phase * (0.5 / M_PI);
        turns = (turns + 6755399441055744.0) - 6755399441055744.0;
        lanes sine, cosine;
        sine_cosine(narrow(phase - turns * (2 * M_PI)), sine, cosine);
        float size = (k ? 2.0f : 1.0f) * (float)std::exp(-y * y / 2);
        lanes real = (w.real[k] * cosine - w.imag[k] * sine) * splat(size);
        lanes imag = (w.real[k] * sine + w.imag[k] * cosine) * splat(size);
        lanes square = real * real + imag * imag;
        w.real[k] = real, w.imag[k] = imag;
        sum += real, sizes += select(square < splat(1e-30f), lanes{}, magnitude(real) + magnitude(imag));
        if (!(largest(splat(std::exp(-2 * ENOUGH)) - square) >= 0) || largest(square) > std::exp(-2 * ENOUGH))
            w.number = k + 1;
    }
    w.sound = !(largest(sizes * splat(SMALLEST_SIGN) - sum) > 0);
    for (int64_t k = 0; k < number; ++k) w.real[k] /= sum, w.imag[k] /= sum;
    w.log_Z = at.log_Z + wide(logarithm(maximum(sum, splat(1e-30f))));
    for (int64_t l = 0; l < LANES; ++l) {
        double x = origin[l];
        w.log_Z[l] += std::log(nodes.step / std::sqrt(2 * M_PI)) +
                      (tile.group->square[tile.lengths[l]] + x * x) / 2;
    }
    return w;
}

// Re Σ_k w_k n_jk into sums, (spins, lanes).
template <int K>
static void mean(const Tile& tile, const Nodes& nodes, int64_t first, const Weights& w, float* sums) {
    for_spins(tile, [&](int64_t j, auto masked, ints here) {
        const float* cosine = &tile.group->table[j * 2 * nodes.row + first];
        const float* sine = cosine + nodes.row;
        lanes up = load(&tile.up[j * LANES]), down = load(&tile.down[j * LANES]), sum = {};
        lanes both = splat(2.0f) * up * down, square = up * up + down * down;
#pragma GCC unroll 8
        for (int k = 0; k < K; ++k) {
            lanes real, imag, r;
            occupation(up, down, both, cosine[k], sine[k], square, masked, here, real, imag, r);
            sum += (w.real[first + k] * real - w.imag[first + k] * imag) * r;
        }
        store(&sums[j * LANES], load(&sums[j * LANES]) + up * sum);
    });
}

// f_k = Σ_j g_j n_jk.
template <int K>
static void project(const Tile& tile, const Nodes& nodes, int64_t first, const float* grad,
                    lanes* f_real, lanes* f_imag) {
    lanes R[K] = {}, I[K] = {};
    for_spins(tile, [&](int64_t j, auto masked, ints here) {
        const float* cosine = &tile.group->table[j * 2 * nodes.row + first];
        const float* sine = cosine + nodes.row;
        lanes up = load(&tile.up[j * LANES]), down = load(&tile.down[j * LANES]);
        lanes both = splat(2.0f) * up * down, square = up * up + down * down;
        lanes g = load(&grad[j * LANES]) * up;
#pragma GCC unroll 8
        for (int k = 0; k < K; ++k) {
            lanes real, imag, r;
            occupation(up, down, both, cosine[k], sine[k], square, masked, here, real, imag, r);
            r *= g;
            R[k] += r * real, I[k] += r * imag;
        }
    });
    for (int k = 0; k < K; ++k) f_real[k] = R[k], f_imag[k] = I[k];
}

// Re Σ_k z_k and Re Σ_k iy_k z_k, z_k = n_jk (moved_k + w_k g_j (1 - n_jk)).
template <int K>
static void derive(const Tile& tile, const Nodes& nodes, int64_t first, const float* grad,
                   const Weights& w, const lanes* moved_real, const lanes* moved_imag, float* sums) {
    for_spins(tile, [&](int64_t j, auto masked, ints here) {
        const float* cosine = &tile.group->table[j * 2 * nodes.row + first];
        const float* sine = cosine + nodes.row;
        lanes up = load(&tile.up[j * LANES]), down = load(&tile.down[j * LANES]);
        lanes both = splat(2.0f) * up * down, square = up * up + down * down;
        lanes g = load(&grad[j * LANES]), sum = {}, torque = {};
#pragma GCC unroll 8
        for (int k = 0; k < K; ++k) {
            lanes real, imag, r;
            occupation(up, down, both, cosine[k], sine[k], square, masked, here, real, imag, r);
            real *= r, imag *= r;  // n = up (real + i imag)
            lanes m = down * (down + up * splat(cosine[k])) * r, n = up * imag;  // 1 - n = m - i n
            lanes wr = w.real[first + k], wi = w.imag[first + k];
            lanes zr = moved_real[first + k] + g * (wr * m + wi * n);
            lanes zi = moved_imag[first + k] + g * (wi * m - wr * n);
            sum += real * zr - imag * zi;
            torque -= (real * zi + imag * zr) * splat((float)(first + k) * nodes.step);
        }
        float* to = &sums[2 * j * LANES];
        store(to, load(to) + up * sum);
        store(to + LANES, load(to + LANES) + up * torque);
    });
}

static bool forward(Tile& tile, const Nodes& nodes, lanes origin, std::vector<float>& up,
                    doubles& log_Z, int64_t& number) {
    Moments at = independent(tile, origin);
    Weights w = weigh(tile, nodes, nodes.number, origin, at);
    log_Z = w.log_Z, number = w.number;
    up.assign(tile.longest * LANES, 0);
    in_chunks(number, [&](auto K, int64_t first) {
        mean<K.value>(tile, nodes, first, w, up.data());
    });
    return w.sound;
}

// Sums of `derive` over all nodes, with the factors ξ_k; returns Re Σ_k moved_k ξ_k.
static lanes backward(Tile& tile, const Nodes& nodes, int64_t number, lanes origin,
                      const float* grad, lanes grad_log_Z, std::vector<float>& sums) {
    Moments at = independent(tile, origin);
    Weights w = weigh(tile, nodes, number, origin, at);
    std::vector<lanes> real(number), imag(number);
    in_chunks(number, [&](auto K, int64_t first) {
        project<K.value>(tile, nodes, first, grad, &real[first], &imag[first]);
    });
    lanes mean = {}, place = {};
    for (int64_t k = 0; k < number; ++k) mean += w.real[k] * real[k] - w.imag[k] * imag[k];
    for (int64_t k = 0; k < number; ++k) {
        lanes fr = real[k] - mean + grad_log_Z, fi = imag[k];
        real[k] = w.real[k] * fr - w.imag[k] * fi, imag[k] = w.real[k] * fi + w.imag[k] * fr;
        place += real[k] * origin - imag[k] * splat((float)k * nodes.step);
    }
    sums.assign(2 * tile.longest * LANES, 0);
    in_chunks(number, [&](auto K, int64_t first) {
        derive<K.value>(tile, nodes, first, grad, w, real.data(), imag.data(), sums.data());
    });
    for (int64_t j = 0; j < tile.longest; ++j) {
        float* to = &sums[2 * j * LANES];
        store(to + LANES, load(to + LANES) + origin * load(to));
    }
    return place;
}

}  // namespace quadrature::negative
