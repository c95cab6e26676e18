// Gradients of the exact moments of dense couplings, from what the forward pass left.
#pragma once
#include "halves.hpp"
#include "models.hpp"

namespace dense {

struct Gradients {
    Numbers occupations, log_Z;  // of the loss in ⟨n⟩ and, unless null, in log Z
    Numbers h;                   // what is computed
};

// u f_A and v f_B of a tile, where f(s) = f_A(a) + f_B(b) is over Z and f_A has the constant.
INLINE void build_uv_f(const Block& block, const lanes* saved, const lanes* g, lanes constant,
                       lanes* uv_f) {
    int64_t half = block.half(), S = block.states();
    const lanes *p_up = saved + 4 * S, *p_down = p_up + block.spins;
    for (int64_t side = 0; side < 2; ++side) {
        lanes up[MOST], down[MOST], *f = uv_f + side * S;
        for (int64_t j = 0; j < half; ++j) {
            up[j] = g[side * half + j] * p_down[side * half + j];
            down[j] = -g[side * half + j] * p_up[side * half + j];
        }
        sums_over_spins(f, half, side ? lanes{} : constant, up, down);
        for (int64_t a = 0; a < S; ++a) f[a] *= saved[side * S + a];
    }
}

// Gradients in h of a tile, from Σ p f n_j; the sums over queries that the gradient in J takes.
INLINE void first_moments(const Models& m, const Item& item, const Tile& tile, const lanes* saved,
                          const lanes* up_f, const lanes* down_f, lanes c, const Gradients& grad,
                          lanes* once) {
    int64_t n = item.block->spins;
    const lanes *up = saved + 4 * item.block->states(), *down = up + n;
    lanes grad_h[2 * MOST] = {};
    for (int64_t j = 0; j < n; ++j) {
        // Σ_s p f = c; the sum over the less likely of s_j = +1 and -1 has the smaller terms.
        lanes of_log_Z = tile.present(j, c);
        lanes first = 2.0f * select(up[j] < down[j], up_f[j], of_log_Z - down_f[j]);
        // At the diagonal, the sum for every spin k that all queries of the tile have.
        lanes one = first - 0.5f * of_log_Z;
        once[j * n + j] += one;
        for (int64_t k = tile.shortest; k < n; ++k)
            if (k != j) once[j * n + k] += tile.present(k, one) - one;
        grad_h[j] = first - of_log_Z;
    }
    grad.h.set(tile, m.n, grad_h);
}

// Columns of a table P = K ∘ Σ_q (u_f vᵀ + u v_fᵀ), V vectors of them, summed over the rows a where
// each spin of the first half is up. `v` and `v_f` have the states along the lanes.
template <int R, int V>
INLINE void fold_table(const float* K, int64_t row, int64_t half, int64_t tiles,
                       const lanes* saved, int64_t saved_tile, const lanes* uv_f,
                       int64_t uv_f_tile, const lanes* v, const lanes* v_f, lanes* up) {
    constexpr int P = V * PIECES;
    int64_t S = int64_t(1) << half;
    for (int64_t a = 0; a < S; a += R) {
        piece table[R][P] = {};
        for (int64_t t = 0; t < tiles; ++t) {
            const piece *x[P], *x_f[P];
            for (int p = 0; p < P; ++p) x[p] = (const piece*)(v + t * LANES * V) + p;
            for (int p = 0; p < P; ++p) x_f[p] = (const piece*)(v_f + t * LANES * V) + p;
            const float* u_f = (const float*)(uv_f + t * uv_f_tile + a);
            const float* u = (const float*)(saved + t * saved_tile + a);
            add_products<R, P>(table, u_f, LANES, 1, x, P, LANES);
            add_products<R, P>(table, u, LANES, 1, x_f, P, LANES);
        }
        for (int p = 0; p < P; ++p) {
            piece all = {}, *sums = (piece*)up + p;
            for (int i = 0; i < R; ++i) {
                table[i][p] *= *(const piece*)(K + (a + i) * row + p * WIDTH);
                all += table[i][p];
            }
            int64_t j = 0;
            for (; 1 << j < R; ++j)
                for (int i = 0; i < R; ++i)
                    if (i >> j & 1) sums[j * P] += table[i][p];
            for (; j < half; ++j)
                if (a >> j & 1) sums[j * P] += all;
        }
    }
}

// The backward pass of a chunk of tiles; its part of the gradient in J, (spins, spins).
inline void backward(const Models& m, const Item& item, const Gradients& grad, float* grad_J) {
    const Block& block = *item.block;
    int64_t n = block.spins, half = block.half(), S = block.states(), row = block.row();
    int64_t count = item.last - item.first, wide = row / LANES;
    lanes* table = m.saved(block, item.group);
    const float* K = (const float*)table;
    lanes* saved = table + block.table() + item.first * block.tile();
    bool pairs_of_vectors = TILES == 2 && wide % 2 == 0;  // columns of two vectors
    int64_t V = pairs_of_vectors ? 2 : 1;
    // u_f and v_f; v and v_f, turned; products of two tiles; sums over queries.
    Scratch uv_f(count * 2 * S), turned(2 * count * LANES * wide), K_uv_f(TILES * 2 * S);
    Scratch p_f(S), of_states(2 * S), once(n * n);
    std::fill_n(of_states.start, 2 * S, lanes{});
    std::fill_n(once.start, n * n, lanes{});

    for (int64_t t = 0, width; t < count; t += width) {
        width = count - t < TILES ? 1 : TILES;
        lanes c[TILES];
        for (int64_t i = 0; i < width; ++i) {
            Tile tile(m, item, item.first + t + i);
            lanes *data = saved + (t + i) * block.tile(), scale = data[4 * S + 2 * n];
            lanes slopes[2 * MOST] = {};
            grad.occupations.get(tile, std::min(n, m.n), slopes);
            for (int64_t j = 0; j < n; ++j) slopes[j] *= scale;
            c[i] = lanes{};
            if (grad.log_Z.start) grad.log_Z.get(tile, 1, &c[i]);
            build_uv_f(block, data, slopes, c[i] * scale, uv_f.start + (t + i) * 2 * S);
        }
        lanes* f = uv_f.start + t * 2 * S;
        with_rows(S, [&](auto R) {
            if (width == 1) times_K<R, 1>(K_uv_f.start, 2 * S, K, row, S, f, 2 * S);
            else times_K<R, TILES>(K_uv_f.start, 2 * S, K, row, S, f, 2 * S);
        });
        for (int64_t i = 0; i < width; ++i) {
            Tile tile(m, item, item.first + t + i);
            lanes *data = saved + (t + i) * block.tile(), *f = uv_f.start + (t + i) * 2 * S;
            lanes up[2 * MOST], down[2 * MOST];
            for (int64_t side = 0; side < 2; ++side) {
                for (int64_t a = 0; a < S; ++a) {
                    int64_t at = side * S + a;
                    p_f.start[a] = data[at] * K_uv_f.start[i * 2 * S + at]
                                   + f[at] * data[2 * S + at];
                    of_states.start[at] += p_f.start[a];
                }
                fold(p_f.start, half, up + side * half, down + side * half);
            }
            first_moments(m, item, tile, data, up, down, c[i], grad, once.start);
            for (int64_t side = 0; side < 2; ++side) {
                const lanes* x = side ? f + S : data + S;
                for (int64_t b = 0; b < wide; ++b) {
                    lanes few[LANES] = {};
                    if (S < LANES) std::copy_n(x, S, few);
                    lanes* out = turned.start + side * count * LANES * wide
                                 + ((b / V * count + t + i) * LANES) * V + b % V;
                    transpose(S < LANES ? few : x + b * LANES, out, V);
                }
            }
        }
    }

    // Pairs within a half from the sums over queries of the states' marginals.
    std::vector<float> pairs(n * n), x(std::max(S, row)), down(half);
    for (int64_t side = 0; side < 2; ++side) {
        for (int64_t a = 0; a < S; ++a) x[a] = total(of_states.start[side * S + a]);
        fold_pairs(x.data(), half, &pairs[side * half * (n + 1)], n);
    }
    // Pairs across, from P: first the sums over a, then those over b.
    Scratch sums(half * wide);
    std::fill_n(sums.start, half * wide, lanes{});
    for (int64_t b = 0; b < wide; b += V) {
        const lanes* v = turned.start + b * count * LANES;
        lanes* up = sums.start + b * half;
        with_rows(S, [&](auto R) {
            auto run = [&](auto columns) {
                fold_table<R, columns>(K + b * LANES, row, half, count, saved, block.tile(),
                                       uv_f.start, 2 * S, v, v + count * LANES * wide, up);
            };
            if (pairs_of_vectors) run(std::integral_constant<int, TILES>());
            else run(std::integral_constant<int, 1>());
        });
    }
    for (int64_t j = 0; j < half; ++j) {
        for (int64_t b = 0; b < wide; ++b)
            store_some(&x[b * LANES], sums.start[(b / V * half + j) * V + b % V], LANES);
        fold(x.data(), half, &pairs[j * n + half], down.data());
    }
    // s s = 4nn - 2n - 2n + 1; half of the derivative in a pair goes to each of its entries.
    for (int64_t j = 0; j < n; ++j)
        for (int64_t k = 0; k < j; ++k) {
            bool within = j < half || k >= half;
            float both = within ? pairs[j * n + k] : pairs[k * n + j];
            float once_each = total(once.start[j * n + j] + once.start[j * n + k]
                                    + once.start[k * n + k] + once.start[k * n + j]);
            grad_J[j * n + k] = grad_J[k * n + j] = 2.0f * both - 0.5f * once_each;
        }
}

}  // namespace dense
