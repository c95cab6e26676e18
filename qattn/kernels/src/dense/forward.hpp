// Exact moments of dense couplings: the twin of qattn/exact/dense/factorised.py, whose docstring has
// the algebra. All sums of a tile of queries are taken while it is in the first caches.
#pragma once
#include <cmath>
#include <limits>
#include "halves.hpp"
#include "models.hpp"

namespace dense {

// K divided by its maximum, 0 beyond the last state, and the logarithm of the maximum.
inline void build_K(const Models& m, const Block& block, int64_t g) {
    int64_t half = block.half(), S = block.states(), row = block.row(), n = m.row;
    const float* J = m.J + g * n * n;
    float* K = (float*)m.saved(block, g);
    // Sums over the states of a half: the energy within it, and the fields on the other half.
    std::vector<float> energy(2 * row), fields(half * S), term(S);
    auto signed_sums = [](float* x, int64_t spins, const float* c, int64_t step) {
        float up[MOST], down[MOST];
        for (int64_t j = 0; j < spins; ++j) up[j] = c[j * step], down[j] = -c[j * step];
        sums_over_spins(x, spins, 0.0f, up, down);
    };
    for (int64_t side = 0; side < 2; ++side)
        for (int64_t k = 1; k < half; ++k) {
            float* E = &energy[side * row];
            signed_sums(term.data(), k, J + side * half * (n + 1) + k, n);
            int64_t states = int64_t(1) << k;
            for (int64_t a = 0; a < states; ++a) {
                E[a + states] = E[a] + term[a];
                E[a] -= term[a];
            }
        }
    for (int64_t k = 0; k < half; ++k) signed_sums(&fields[k * S], half, J + half + k, n);
    for (int64_t b = S; b < row; ++b) energy[row + b] = -1e30f;
    // Row by row: four spins of b within a vector, the others from vector to vector.
    int64_t low = std::min<int64_t>(half, 4);
    lanes sign[4] = {}, largest = splat(-std::numeric_limits<float>::infinity());
    for (int64_t k = 0; k < low; ++k)
        for (int64_t i = 0; i < LANES; ++i) sign[k][i] = i >> k & 1 ? 1.0f : -1.0f;
    for (int64_t a = 0; a < S; ++a) {
        lanes within = splat(energy[a]);
        for (int64_t k = 0; k < low; ++k) within += fields[k * S + a] * sign[k];
        signed_sums(term.data(), half - low, fields.data() + low * S + a, S);
        for (int64_t b = 0; b < row; b += LANES) {
            lanes E = load(&energy[row + b]) + within + (b < S ? term[b / LANES] : 0.0f);
            largest = maximum(largest, E);
            store(K + a * row + b, E);
        }
    }
    float log_K = largest[0];
    for (int64_t i = 1; i < LANES; ++i) log_K = std::max(log_K, largest[i]);
    for (int64_t i = 0; i < S * row; i += LANES) store(K + i, exponential(load(K + i) - log_K));
    K[S * row] = log_K;
}

// u and v of a tile, each with maximum 1; and what log Z takes back: the logarithm of the maxima,
// and the energy of pairs of absent spins, which are all down in K.
INLINE lanes build_uv(const Models& m, const Numbers& h, const Item& item, const Tile& tile,
                      lanes* uv) {
    int64_t n = item.block->spins, half = n / 2;
    const float* J = m.J + item.group * m.row * m.row;
    lanes fields[2 * MOST] = {}, up[2 * MOST], down[2 * MOST], log_scale = {}, absent_energy = {};
    h.get(tile, std::min(n, m.n), fields);
    for (int64_t j = 0; j < n; ++j) {
        lanes field = fields[j], of_absent = {};
        for (int64_t k = tile.shortest; k < n; ++k)
            of_absent += J[j * m.row + k] - tile.present(k, splat(J[j * m.row + k]));
        lanes unknown = field - field;  // NaN where it is not finite
        absent_energy += of_absent - tile.present(j, of_absent);
        field = tile.present(j, field + of_absent);
        lanes size = maximum(field, -field);
        log_scale += size;
        // exp(-2|h|) where the spin is against its field; an absent spin is never up.
        lanes against = exponential(-2.0f * size), one = splat(1.0f);
        up[j] = tile.present(j, select(field < lanes{}, against, one));
        up[j] = select(field > lanes{}, one, up[j]);
        down[j] = select(field > lanes{}, against, one) + unknown;
    }
    for (int64_t side = 0; side < 2; ++side)
        products_over_spins(uv + side * item.block->states(), half, up + side * half,
                            down + side * half);
    return log_scale - 0.5f * absent_energy;
}

struct Outputs {
    Numbers occupations, log_Z;
    bool normalize;
};

// Occupations of a tile, and log Z where it is wanted; whether they hold to rounding.
INLINE bool finish(const Models& m, const Item& item, const Tile& tile, lanes* saved,
                   lanes log_scale, lanes* p, const Outputs& out) {
    int64_t n = item.block->spins, half = n / 2, S = item.block->states();
    lanes *up = saved + 4 * S, *down = up + n, Z = {};
    for (int64_t side = 0; side < 2; ++side) {
        for (int64_t a = 0; a < S; ++a) p[a] = saved[side * S + a] * saved[(2 + side) * S + a];
        fold(p, half, up + side * half, down + side * half);
        if (side == 0) Z = p[0];
    }
    // What underflowed, at most 3·2^n·tiny, must be below the rounding of what is computed.
    typedef std::numeric_limits<float> limits;
    float enough = std::ldexp(3.0f * limits::min() / limits::epsilon(), int(n));
    lanes total = out.normalize ? lanes{} : Z;
    ints accurate = Z >= enough;
    for (int64_t j = 0; j < n; ++j) {
        accurate &= (up[j] >= enough) | (tile.length <= int32_t(j));
        if (out.normalize) total += up[j];
    }
    // A query without spins has no occupations, and their sum divides nothing.
    total = select(tile.length == 0, maximum(total, splat(1.0f)), total);
    lanes scale = 1.0f / total, inverse_Z = 1.0f / Z;
    lanes occupations[2 * MOST] = {};
    for (int64_t j = 0; j < n; ++j) occupations[j] = up[j] * scale;
    out.occupations.set(tile, m.n, occupations);
    for (int64_t i = 0; i < 2 * n; ++i) up[i] *= inverse_Z;
    up[2 * n] = scale;
    bool all = true;
    for (int64_t i = 0; i < tile.count; ++i) all &= accurate[i] != 0;
    if (out.log_Z.start) {
        for (int64_t i = 0; i < tile.count; ++i) log_scale[i] += std::log(Z[i]);
        out.log_Z.set(tile, 1, &log_scale);
    }
    return all;
}

// The forward pass of the tiles of an item.
inline bool forward(const Models& m, const Numbers& h, const Item& item, const Outputs& out) {
    const Block& block = *item.block;
    int64_t S = block.states(), size = block.tile();
    lanes* table = m.saved(block, item.group);
    const float* K = (const float*)table;
    float log_K = K[S * block.row()];
    Scratch p(S);
    bool accurate = true;
    for (int64_t t = item.first, width; t < item.last; t += width) {
        width = item.last - t < TILES ? 1 : TILES;
        lanes *saved = table + block.table() + t * size, log_scale[TILES];
        for (int64_t i = 0; i < width; ++i)
            log_scale[i] = build_uv(m, h, item, Tile(m, item, t + i), saved + i * size);
        with_rows(S, [&](auto R) {
            if (width == 1) times_K<R, 1>(saved + 2 * S, size, K, block.row(), S, saved, size);
            else times_K<R, TILES>(saved + 2 * S, size, K, block.row(), S, saved, size);
        });
        for (int64_t i = 0; i < width; ++i)
            accurate &= finish(m, item, Tile(m, item, t + i), saved + i * size,
                               log_scale[i] + log_K, p.start, out);
    }
    return accurate;
}

}  // namespace dense
