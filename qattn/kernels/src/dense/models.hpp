// Dense models in blocks of queries, and how their numbers lie in memory.
#pragma once
#include <algorithm>
#include <vector>
#include "../lanes.hpp"

namespace dense {

constexpr int64_t MOST = 32;  // spins of a half

// Queries first … last - 1, enumerated with `spins` spins. What the forward pass leaves of each
// group stands in its part of the workspace from `offset` on: K, the logarithm of its maximum (a
// vector), then for each tile of 16 queries u, v, Kv, Kᵀu, p(s_j = +1), p(s_j = -1), the scale.
struct Block {
    int64_t first, last, spins, offset;
    int64_t half() const { return spins / 2; }
    int64_t states() const { return int64_t(1) << half(); }
    // Floats of a row of K: whole vectors, and no large power of two, which crowds the caches.
    int64_t row() const {
        int64_t S = states();
        return S < LANES ? LANES : S < 256 ? S : S + LANES;
    }
    int64_t tiles() const { return (last - first + LANES - 1) / LANES; }
    // Vectors of a tile, of K with its logarithm, and of a whole block.
    int64_t tile() const { return 4 * states() + 2 * spins + 1; }
    int64_t table() const { return states() * row() / LANES + 1; }
    int64_t size() const { return table() + tiles() * tile(); }
    // Tiles whose backward pass is computed together: as many as the second cache holds.
    int64_t chunk() const { return std::max<int64_t>(2, std::min<int64_t>(8, 1024 / states())); }
};

// Models (groups, queries) of n spins, each with the first `lengths` of them, which ascend; `order`
// says where a query stands in the batch. J has rows of `row` numbers.
struct Models {
    const Block* blocks;
    int64_t num_blocks;
    const int32_t* lengths;
    int64_t length_rows;
    const int64_t* order;
    int64_t groups, queries, n;
    const float* J;
    int64_t row;
    float* workspace;
    int64_t workspace_row;
    lanes* saved(const Block& block, int64_t g) const {
        return (lanes*)(workspace + g * workspace_row) + block.offset;
    }
};

// Work for one thread: some tiles of a block of a group.
struct Item {
    const Block* block;
    int64_t group, first, last;
};

// Everything, the largest models first; the tiles of a block in chunks, or all at once.
inline std::vector<Item> items(const Models& m, bool chunks) {
    std::vector<Item> all;
    for (int64_t i = m.num_blocks - 1; i >= 0; --i) {
        const Block* block = m.blocks + i;
        int64_t step = chunks ? block->chunk() : block->tiles();
        for (int64_t g = 0; g < m.groups; ++g)
            for (int64_t t = 0; t < block->tiles(); t += step)
                all.push_back({block, g, t, std::min(t + step, block->tiles())});
    }
    return all;
}

// The queries of a tile.
struct Tile {
    int64_t group, first, count, shortest;
    const int64_t* order;
    ints length;
    bool in_order;
    Tile(const Models& m, const Item& item, int64_t number) : group(item.group) {
        const Block& block = *item.block;
        first = block.first + number * LANES;
        count = std::min(block.last - first, LANES);
        order = m.order + first;
        length = ints{} + int32_t(block.spins);
        shortest = block.spins;
        in_order = true;
        const int32_t* lengths = m.lengths + group % m.length_rows * m.queries + first;
        for (int64_t i = 0; i < count; ++i) {
            length[i] = lengths[i];
            shortest = std::min<int64_t>(shortest, lengths[i]);
            in_order &= order[i] == order[0] + i;
        }
    }
    // x where spin j is present, else 0.
    lanes present(int64_t j, lanes x) const { return select(length > int32_t(j), x, lanes{}); }
};

// Numbers of the batch, (groups, queries, spins) or without the last axis, with any strides.
struct Numbers {
    float* start;
    int64_t group, query, spin;
    // Those of a tile, 0 where there is no query.
    void get(const Tile& tile, int64_t spins, lanes* out) const {
        const float* x = start + tile.group * group;
        if (query == 1 && tile.in_order)
            for (int64_t j = 0; j < spins; ++j)
                out[j] = load_some(x + tile.order[0] + j * spin, tile.count);
        else {
            std::fill_n(out, spins, lanes{});
            for (int64_t i = 0; i < tile.count; ++i)
                for (int64_t j = 0; j < spins; ++j)
                    ((float*)(out + j))[i] = x[tile.order[i] * query + j * spin];
        }
    }
    void set(const Tile& tile, int64_t spins, const lanes* values) const {
        float* x = start + tile.group * group;
        if (query == 1 && tile.in_order)
            for (int64_t j = 0; j < spins; ++j)
                store_some(x + tile.order[0] + j * spin, values[j], tile.count);
        else
            for (int64_t i = 0; i < tile.count; ++i)
                for (int64_t j = 0; j < spins; ++j)
                    x[tile.order[i] * query + j * spin] = ((const float*)(values + j))[i];
    }
};

}  // namespace dense
