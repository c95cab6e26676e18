// Rank-one couplings by quadrature: what both signs share. For the formulas see
// qattn/exact/quadrature/{grid,sums}.py, of which this is the float32 twin.
#pragma once
#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>
#include "lanes.hpp"
#include "parallel.hpp"

namespace quadrature {

typedef double doubles __attribute__((vector_size(2 * sizeof(lanes))));

constexpr float STEP = 1.1f;        // D of the positive sign
constexpr float CUT = 15.0f;        // the first node that is left out has less than e^-CUT
constexpr float NEGLIGIBLE = 60.0f; // smaller weights, e^-60 of the largest, are 0
constexpr int ITERATIONS = 100;

INLINE doubles wide(lanes x) { return __builtin_convertvector(x, doubles); }
INLINE lanes narrow(doubles x) { return __builtin_convertvector(x, lanes); }

// The first `count` lanes from memory; the others repeat the last.
INLINE lanes load_repeating(const float* p, int64_t count) {
    lanes x = load_some(p, count);
    for (int64_t l = count; l < LANES; ++l) x[l] = p[count - 1];
    return x;
}

INLINE float largest(lanes x) {  // passes over NaN
    float best = -INFINITY;
    for (int64_t l = 0; l < LANES; ++l) best = x[l] > best ? x[l] : best;
    return best;
}

INLINE float total(lanes x) {
    float sums[LANES];
    store(sums, x);
    for (int64_t half = LANES / 2; half > 0; half /= 2)
        for (int64_t l = 0; l < half; ++l) sums[l] += sums[l + half];
    return sums[0];
}

// To 1e-7 for |x| up to some thousands: Cephes' polynomials on |x| <= π/4.
INLINE void sine_cosine(lanes x, lanes& sine, lanes& cosine) {
    lanes shifted = x * splat(0.636619772f) + splat(12582912.0f);
    ints quadrant = (ints)shifted;
    lanes turns = shifted - splat(12582912.0f);
    lanes r = x - turns * splat(1.5703125f) - turns * splat(4.837512969970703125e-4f);
    r = r - turns * splat(7.54978995489188216e-8f);
    lanes z = r * r;
    lanes s = splat(-1.9515295891e-4f) * z + splat(8.3321608736e-3f);
    s = (s * z + splat(-1.6666654611e-1f)) * z * r + r;
    lanes c = splat(2.443315711809948e-5f) * z + splat(-1.388731625493765e-3f);
    c = (c * z + splat(4.166664568298827e-2f)) * z * z - splat(0.5f) * z + splat(1.0f);
    ints swap = (quadrant & 1) == 1;
    sine = select(swap, c, s), cosine = select(swap, s, c);
    sine = (lanes)((ints)sine ^ ((quadrant & 2) << 30));
    cosine = (lanes)((ints)cosine ^ (((quadrant + 1) & 2) << 30));
}

// A product whose exponents are taken out before it can leave the normal numbers.
struct Product {
    lanes mantissa = splat(1.0f);
    ints exponent = {};
    __attribute__((always_inline)) void rescale() {
        ints bits = (ints)mantissa;
        exponent += (bits >> 23) - 127;
        mantissa = (lanes)((bits & 0x7fffff) | 0x3f800000);
    }
    __attribute__((always_inline)) doubles log() const {
        return wide(logarithm(mantissa)) +
               __builtin_convertvector(exponent, doubles) * 0.693147180559945309;
    }
};

// What the queries of a group share.
struct Group {
    const float* U = nullptr;
    std::vector<float> table;             // factors by spin and node
    std::vector<double> sum, size, square; // of U, |U| and U² over the first spins
    float largest = 0;
    int64_t interval = 16;                // spins after which products are rescaled

    void open(const float* values, int64_t n) {
        U = values;
        sum.assign(n + 1, 0), size.assign(n + 1, 0), square.assign(n + 1, 0);
        for (int64_t j = 0; j < n; ++j) {
            double u = U[j];
            sum[j + 1] = sum[j] + u, size[j + 1] = size[j] + std::fabs(u);
            square[j + 1] = square[j] + u * u;
            largest = std::fabs(U[j]) > largest ? std::fabs(U[j]) : largest;
        }
    }
};

// As many queries of a group as there are lanes: their fields, and their independent spins at a reference point.
struct Tile {
    const Group* group;
    int64_t queries, longest, shortest;
    ints lengths;
    std::vector<float> fields, up, down;  // (spins, lanes); occupations of absent spins are 0

    void open(const Group& of, const float* h, const int64_t* numbers, int64_t Q, int64_t first) {
        group = &of;
        queries = std::min(LANES, Q - first);
        longest = 0, shortest = INT64_MAX;
        for (int64_t l = 0; l < LANES; ++l) {
            int64_t number = numbers[first + std::min(l, queries - 1)];
            lengths[l] = (int32_t)number;
            longest = std::max(longest, number), shortest = std::min(shortest, number);
        }
        fields.resize(longest * LANES), up.resize(longest * LANES), down.resize(longest * LANES);
        for (int64_t j = 0; j < longest; ++j)
            store(&fields[j * LANES], load_repeating(h + j * Q + first, queries));
    }

    ints present(int64_t j) const { return lengths > (int32_t)j; }

    lanes prefix(const std::vector<double>& of) const {
        lanes x;
        for (int64_t l = 0; l < LANES; ++l) x[l] = (float)of[lengths[l]];
        return x;
    }
};

// Calls work(j, masked, here): without masks as long as all lanes have the spin.
template <class Work>
INLINE void for_spins(const Tile& tile, Work work) {
    int64_t j = 0;
    for (; j < tile.shortest; ++j) work(j, std::false_type{}, ints{});
    for (; j < tile.longest; ++j) work(j, std::true_type{}, tile.present(j));
}

// Whether all weights are 0: those of NaN are not.
INLINE bool negligible(const lanes* w, int64_t number) {
    for (int64_t k = 0; k < number; ++k)
        for (int64_t l = 0; l < LANES; ++l)
            if (!(w[k][l] == 0)) return false;
    return true;
}

// Moments of independent spins of the fields h + xU.
struct Moments {
    lanes slope = {};     // Σ U<s>
    lanes variance = {};  // Σ U²(1 - <s>²)
    doubles log_Z = {};   // Σ log 2cosh
    lanes spread = {};    // Σ U² tanh(b)/b, if asked for
};

template <bool SPREAD = false>
static Moments independent(Tile& tile, lanes x) {
    Moments m;
    Product product;
    for (int64_t j = 0; j < tile.longest; ++j) {
        lanes u = splat(tile.group->U[j]);
        lanes b = load(&tile.fields[j * LANES]) + x * u, size = magnitude(b);
        lanes v = exponential(size * splat(-2.0f)) + (b - b);  // NaN and infinity become NaN
        lanes more = splat(1.0f) / (splat(1.0f) + v);
        lanes less = v * more, one = v + splat(1.0f);
        ints positive = b >= splat(0.0f);
        lanes up = select(positive, more, less), down = select(positive, less, more);
        if (j >= tile.shortest) {
            ints here = tile.present(j);
            up = select(here, up, lanes{}), down = select(here, down, lanes{});
            size = select(here, size, lanes{}), one = select(here, one, splat(1.0f));
        }
        store(&tile.up[j * LANES], up), store(&tile.down[j * LANES], down);
        m.slope += u * (up - down);
        m.variance += splat(4.0f) * u * u * up * down;
        m.log_Z += wide(size), product.mantissa *= one;
        if (SPREAD)  // tanh(b)/b = 1 - b²/3 + ... where b is small, and at absent spins 0
            m.spread += u * u * magnitude(up - down) / maximum(size, splat(1e-6f)) +
                        u * u * select(size < splat(1e-6f), up + down, lanes{});
        if (j % 16 == 15) product.rescale();
    }
    product.rescale();
    m.log_Z += product.log();
    return m;
}

}  // namespace quadrature
