// The functions of rank-one couplings that Python calls. Tensors are contiguous: h and what has its
// shape (groups, n, queries), U (groups, n), lengths (rows, queries), others (groups, queries).
#pragma once
#include "quadrature_negative.hpp"
#include "quadrature_positive.hpp"

namespace quadrature {

struct Sizes {
    int64_t G, n, Q, rows, tiles;
    Sizes(int64_t G, int64_t n, int64_t Q, int64_t rows)
        : G(G), n(n), Q(Q), rows(rows), tiles((Q + LANES - 1) / LANES) {}
    const int64_t* row(const int64_t* lengths, int64_t g) const {
        return lengths + (rows > 1 ? g * Q : 0);
    }
};

// A tile for each thread, so that its memory is taken once.
static std::vector<Tile> tiles_for(int64_t threads) { return std::vector<Tile>(std::max<int64_t>(1, threads)); }

// Occupations, log Z, and for each query the first node, the step and the number of nodes. Returns 0
// in `accurate` where float32 would not do. `up` must be 0 before.
extern "C" void qattn_quadrature_forward(
    const float* h, const float* U, const int64_t* lengths, int64_t G, int64_t n, int64_t Q,
    int64_t rows, int64_t sign, float* up, float* log_Z, float* origin, float* step, int64_t* number,
    uint8_t* accurate, int64_t threads) {
    Sizes size(G, n, Q, rows);
    std::vector<Group> groups(G);
    std::vector<negative::Nodes> lines(G);
    std::vector<Tile> tiles = tiles_for(threads);
    std::vector<std::vector<float>> results(tiles.size());
    std::vector<float> periods(G * size.tiles, 1.0f);
    parallel_for(G, threads, [&](int64_t, int64_t g) {
        groups[g].open(U + g * n, n);
        if (sign > 0) positive::tabulate(groups[g], n);
    });
    auto opened = [&](int64_t thread, int64_t item) -> Tile& {
        int64_t g = item / size.tiles, first = item % size.tiles * LANES;
        tiles[thread].open(groups[g], h + g * n * Q, size.row(lengths, g), Q, first);
        return tiles[thread];
    };
    if (sign < 0) {
        // One step a group, because its tables are: first the saddles of all queries.
        parallel_for(G * size.tiles, threads, [&](int64_t thread, int64_t item) {
            Tile& tile = opened(thread, item);
            negative::Saddle found = negative::saddle(tile);
            periods[item] = found.period;
            int64_t at_query = item / size.tiles * Q + item % size.tiles * LANES;
            store_some(origin + at_query, found.origin, tile.queries);
        });
        parallel_for(G, threads, [&](int64_t, int64_t g) {
            float* first = &periods[g * size.tiles];
            lines[g] = negative::tabulate(groups[g], n, *std::max_element(first, first + size.tiles));
        });
    }
    parallel_for(G * size.tiles, threads, [&](int64_t thread, int64_t item) {
        int64_t g = item / size.tiles, first = item % size.tiles * LANES;
        Tile& tile = opened(thread, item);
        std::vector<float>& result = results[thread];
        int64_t at_query = g * Q + first, nodes_used;
        doubles log = {};
        bool good = true;
        if (sign > 0) {
            positive::Nodes nodes;
            good = positive::forward(tile, result, log, nodes);
            nodes_used = nodes.number;
            lanes low = nodes.center - splat(0.5f * (float)(nodes.number - 1) * STEP);
            store_some(origin + at_query, low, tile.queries);
        } else {
            lanes x = load_repeating(origin + at_query, tile.queries);
            if (lines[g].number > negative::TOO_MANY) { accurate[item] = 0; return; }
            good = negative::forward(tile, lines[g], x, result, log, nodes_used);
        }
        accurate[item] = good;
        if (!good) return;
        store_some(log_Z + at_query, narrow(log), tile.queries);
        for (int64_t l = 0; l < tile.queries; ++l) {
            step[at_query + l] = sign > 0 ? STEP : lines[g].step;
            number[at_query + l] = nodes_used;
        }
        for (int64_t j = 0; j < tile.longest; ++j)
            store_some(up + (g * n + j) * Q + first, load(&result[j * LANES]), tile.queries);
    });
}

// Derivatives in h and, for each tile of queries, in U: (groups, tiles, n). A gradient that there is
// not is null; what is written to must be 0 before.
extern "C" void qattn_quadrature_backward(
    const float* grad_up, const float* grad_log_Z, const float* h, const float* U,
    const int64_t* lengths, int64_t G, int64_t n, int64_t Q, int64_t rows, int64_t sign,
    const float* origin, const float* step, const int64_t* number, float* grad_h, float* grad_U,
    int64_t threads) {
    Sizes size(G, n, Q, rows);
    std::vector<Group> groups(G);
    std::vector<negative::Nodes> lines(G);
    std::vector<Tile> tiles = tiles_for(threads);
    std::vector<std::vector<float>> results(tiles.size()), grads(tiles.size());
    parallel_for(G, threads, [&](int64_t, int64_t g) {
        groups[g].open(U + g * n, n);
        if (sign > 0) positive::tabulate(groups[g], n);
        else lines[g] = negative::tabulate(groups[g], n, (float)(2 * M_PI) / step[g * Q]);
    });
    parallel_for(G * size.tiles, threads, [&](int64_t thread, int64_t item) {
        int64_t g = item / size.tiles, first = item % size.tiles * LANES, at_query = g * Q + first;
        Tile& tile = tiles[thread];
        tile.open(groups[g], h + g * n * Q, size.row(lengths, g), Q, first);
        std::vector<float>&sums = results[thread], &grad = grads[thread];
        grad.assign(tile.longest * LANES, 0);
        if (grad_up)
            for (int64_t j = 0; j < tile.longest; ++j)
                store(&grad[j * LANES], load_some(grad_up + (g * n + j) * Q + first, tile.queries));
        lanes log_Z = grad_log_Z ? load_some(grad_log_Z + at_query, tile.queries) : lanes{};
        lanes x = load_repeating(origin + at_query, tile.queries), place;
        int64_t nodes_used = number[at_query];
        if (sign > 0) {
            lanes center = x + splat(0.5f * (float)(nodes_used - 1) * STEP);
            place = positive::backward(tile, {center, nodes_used}, grad.data(), log_Z, sums);
        } else {
            place = negative::backward(tile, lines[g], nodes_used, x, grad.data(), log_Z, sums);
        }
        ints real;  // lanes that are queries
        for (int64_t l = 0; l < LANES; ++l) real[l] = l < tile.queries ? -1 : 0;
        float* to_U = grad_U + (g * size.tiles + item % size.tiles) * n;
        for (int64_t j = 0; j < tile.longest; ++j) {
            const float* from = &sums[2 * j * LANES];
            ints here = tile.present(j);
            lanes at_h = splat(2.0f) * load(from) - log_Z;
            lanes at_U = splat(2.0f) * load(from + LANES) - place - log_Z * splat((float)sign * U[g * n + j]);
            store_some(grad_h + (g * n + j) * Q + first, select(here, at_h, lanes{}), tile.queries);
            to_U[j] = total(select(here & real, at_U, lanes{}));
        }
    });
}

}  // namespace quadrature
