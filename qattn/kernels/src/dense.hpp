// Exact moments of dense couplings: the twin of qattn/exact/dense/factorised.py, whose docstring has
// the algebra. All sums of a tile of queries are taken while it is in the first caches.
#pragma once
#include <atomic>
#include <cmath>
#include <limits>
#include "dense_backward.hpp"
#include "dense_models.hpp"
#include "halves.hpp"
#include "parallel.hpp"

namespace dense {

// K divided by its maximum, 0 beyond the last state, and the logarithm of the maximum.
inline void build_K(const Models& m, const Block& block, int64_t g) {
    int64_t half = block.half(), S = block.states(), row = block.row(), n = m.n;
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
INLINE lanes build_uv(const Models& m, const Strided& h, const Item& item, const Tile& tile,
                      lanes* uv) {
    int64_t n = item.block->spins, half = n / 2;
    const float* J = m.J + item.group * m.n * m.n;
    lanes up[2 * MOST], down[2 * MOST], log_scale = {}, absent_energy = {};
    for (int64_t j = 0; j < n; ++j) {
        lanes field = h.get(item.group, j, tile.query, tile.count), of_absent = {};
        for (int64_t k = tile.shortest; k < n; ++k)
            of_absent += J[j * m.n + k] - tile.present(k, splat(J[j * m.n + k]));
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
    Strided occupations;
    float* log_Z;
    bool normalize;
};

// Occupations of a tile, and log Z where it is wanted; whether they hold to rounding.
INLINE bool finish(const Models& m, const Item& item, const Tile& tile, lanes* saved,
                   lanes log_scale, lanes* p, const Outputs& out) {
    int64_t n = item.block->spins, half = n / 2, S = item.block->states(), g = item.group;
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
    for (int64_t j = 0; j < m.n; ++j)
        out.occupations.set(g, j, tile.query, tile.count, j < n ? up[j] * scale : lanes{});
    for (int64_t i = 0; i < 2 * n; ++i) up[i] *= inverse_Z;
    up[2 * n] = scale;
    bool all = true;
    for (int64_t i = 0; i < tile.count; ++i) {
        all &= accurate[i] != 0;
        if (out.log_Z)
            out.log_Z[g * m.queries + tile.query + i] = std::log(Z[i]) + log_scale[i];
    }
    return all;
}

// The forward pass of the tiles of an item.
inline bool forward(const Models& m, const Strided& h, const Item& item, const Outputs& out) {
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

extern "C" {

// Fills in where each block's part of the workspace begins; as that of one block more, its size.
void qattn_dense_layout(dense::Block* blocks, int64_t num_blocks, int64_t) {
    blocks[0].offset = 0;
    for (int64_t i = 0; i < num_blocks; ++i)
        blocks[i + 1].offset = blocks[i].offset + blocks[i].size();
}

// Occupations (groups, n, queries), log Z unless null, and whether they hold to rounding.
void qattn_dense_forward(float* h, int64_t h_group, int64_t h_spin, int64_t h_query, float* J,
                            int32_t* lengths, int64_t length_rows, int64_t groups, int64_t queries,
                            int64_t n, dense::Block* blocks, int64_t num_blocks, float* workspace,
                            int64_t workspace_row, float* occupations, float* log_Z,
                            int64_t normalize, float limit, int64_t* accurate, int64_t threads) {
    *accurate = 0;
    // Couplings that are too large, or NaN.
    for (int64_t g = 0; g < groups; ++g) {
        double sum = 0.0;
        for (int64_t i = 0; i < n * n; ++i) sum += std::fabs(J[g * n * n + i]);
        if (!(sum <= 2.0 * limit)) return;
    }
    dense::Models m{J, lengths, length_rows, groups, queries, n, blocks, num_blocks, workspace,
                    workspace_row};
    dense::Strided fields{h, h_group, h_spin, h_query};
    dense::Outputs out{{occupations, n * queries, queries, 1}, log_Z, normalize != 0};
    auto tables = dense::items(m, false), tiles = dense::items(m, true);
    std::atomic<bool> all{true};
    parallel_for(tables.size(), threads, [&](int64_t, int64_t i) {
        dense::build_K(m, *tables[i].block, tables[i].group);
    });
    parallel_for(tiles.size(), threads, [&](int64_t, int64_t i) {
        if (all && !dense::forward(m, fields, tiles[i], out)) all = false;
    });
    *accurate = all;
}

// Gradients in h (groups, n, queries) and J, from those in the occupations and in log Z.
void qattn_dense_backward(float* grad, int64_t grad_group, int64_t grad_spin, int64_t grad_query,
                          float* grad_log_Z, int32_t* lengths, int64_t length_rows, int64_t groups,
                          int64_t queries, int64_t n, dense::Block* blocks, int64_t num_blocks,
                          float* workspace, int64_t workspace_row, float* grad_h, float* grad_J,
                          int64_t threads) {
    dense::Models m{nullptr, lengths, length_rows, groups, queries, n, blocks, num_blocks,
                    workspace, workspace_row};
    dense::Gradients gradients{{grad, grad_group, grad_spin, grad_query}, grad_log_Z,
                               {grad_h, n * queries, queries, 1}};
    auto tiles = dense::items(m, true);
    std::vector<std::vector<float>> parts(tiles.size());
    parallel_for(tiles.size(), threads, [&](int64_t, int64_t i) {
        parts[i].resize(tiles[i].block->spins * tiles[i].block->spins);
        dense::backward(m, tiles[i], gradients, parts[i].data());
    });
    // In the order of the items, so that the sum does not depend on the threads.
    std::fill_n(grad_J, groups * n * n, 0.0f);
    for (size_t i = 0; i < tiles.size(); ++i) {
        int64_t spins = tiles[i].block->spins;
        for (int64_t j = 0; j < spins; ++j)
            for (int64_t k = 0; k < spins; ++k)
                grad_J[(tiles[i].group * n + j) * n + k] += parts[i][j * spins + k];
    }
}

}
