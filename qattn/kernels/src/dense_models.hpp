// Dense models in blocks of queries, and how their numbers lie in memory.
#pragma once
#include <algorithm>
#include <vector>
#include "lanes.hpp"

namespace dense {

constexpr int64_t MOST = 32;  // spins of a half

// Numbers of a tensor (groups, spins, queries), in any order.
struct Strided {
    float* start;
    int64_t group, spin, query;
    lanes get(int64_t g, int64_t j, int64_t q, int64_t count) const {
        const float* p = start + g * group + j * spin + q * query;
        if (query == 1) return load_some(p, count);
        lanes x = {};
        for (int64_t i = 0; i < count; ++i) x[i] = p[i * query];
        return x;
    }
    void set(int64_t g, int64_t j, int64_t q, int64_t count, lanes x) const {
        float* p = start + g * group + j * spin + q * query;
        if (query == 1) return store_some(p, x, count);
        for (int64_t i = 0; i < count; ++i) p[i * query] = x[i];
    }
};

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

// Models (groups, queries) of n spins, each with the first `lengths` of them.
struct Models {
    const float* J;
    const int32_t* lengths;
    int64_t length_rows, groups, queries, n;
    const Block* blocks;
    int64_t num_blocks;
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
    int64_t query, count, shortest;
    ints length;
    Tile(const Models& m, const Item& item, int64_t number) {
        const Block& block = *item.block;
        query = block.first + number * LANES;
        count = std::min(block.last - query, LANES);
        length = ints{} + int32_t(block.spins);
        shortest = block.spins;
        const int32_t* lengths = m.lengths + item.group % m.length_rows * m.queries + query;
        for (int64_t i = 0; i < count; ++i) {
            length[i] = lengths[i];
            shortest = std::min<int64_t>(shortest, lengths[i]);
        }
    }
    // x where spin j is present, else 0.
    lanes present(int64_t j, lanes x) const {
        return select(length > int32_t(j), x, lanes{});
    }
};

}  // namespace dense
