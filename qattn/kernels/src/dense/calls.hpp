// Exact moments of dense couplings, as qattn/exact/dense/compiled.py calls them.
#pragma once
#include <atomic>
#include "../parallel.hpp"
#include "backward.hpp"
#include "forward.hpp"

extern "C" {

// Fills in where each block's part of the workspace begins; as that of one block more, its size.
void qattn_dense_layout(dense::Block* blocks, int64_t num_blocks, int64_t) {
    blocks[0].offset = 0;
    for (int64_t i = 0; i < num_blocks; ++i)
        blocks[i + 1].offset = blocks[i].offset + blocks[i].size();
}

// Occupations and log Z (unless null), laid out as h and as (groups, queries), of a batch's h and J
// (groups, row, row); and whether they hold to rounding.
void qattn_dense_forward(dense::Block* blocks, int64_t num_blocks, int32_t* lengths,
                         int64_t length_rows, int64_t* order, int64_t groups, int64_t queries,
                         int64_t n, float* h, int64_t h_group, int64_t h_query, int64_t h_spin,
                         float* J, int64_t row, float* workspace, int64_t workspace_row,
                         float* occupations, int64_t group, int64_t query, int64_t spin,
                         float* log_Z, int64_t normalize, float limit, int64_t* accurate,
                         int64_t threads) {
    *accurate = 0;
    // Couplings that are too large, or NaN.
    for (int64_t g = 0; g < groups; ++g) {
        double sum = 0.0;
        for (int64_t i = 0; i < row * row; ++i) sum += std::fabs(J[g * row * row + i]);
        if (!(sum <= 2.0 * limit)) return;
    }
    dense::Models m{blocks, num_blocks, lengths, length_rows, order, groups, queries, n, J, row,
                    workspace, workspace_row};
    dense::Numbers fields{h, h_group, h_query, h_spin};
    dense::Outputs out{{occupations, group, query, spin}, {log_Z, queries, 1, 0}, normalize != 0};
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

// Gradients in h, with the layout of the gradient in the occupations, and in J (groups, row, row).
void qattn_dense_backward(dense::Block* blocks, int64_t num_blocks, int32_t* lengths,
                          int64_t length_rows, int64_t* order, int64_t groups, int64_t queries,
                          int64_t n, float* workspace, int64_t workspace_row, float* grad,
                          int64_t grad_group, int64_t grad_query, int64_t grad_spin,
                          float* grad_log_Z, float* grad_h, int64_t group, int64_t query,
                          int64_t spin, float* grad_J, int64_t row, int64_t threads) {
    dense::Models m{blocks, num_blocks, lengths, length_rows, order, groups, queries, n, nullptr,
                    row, workspace, workspace_row};
    dense::Gradients gradients{{grad, grad_group, grad_query, grad_spin},
                               {grad_log_Z, queries, 1, 0},
                               {grad_h, group, query, spin}};
    auto tiles = dense::items(m, true);
    std::vector<std::vector<float>> parts(tiles.size());
    parallel_for(tiles.size(), threads, [&](int64_t, int64_t i) {
        parts[i].resize(tiles[i].block->spins * tiles[i].block->spins);
        dense::backward(m, tiles[i], gradients, parts[i].data());
    });
    // In the order of the items, so that the sum does not depend on the threads.
    std::fill_n(grad_J, groups * row * row, 0.0f);
    for (size_t i = 0; i < tiles.size(); ++i) {
        int64_t spins = tiles[i].block->spins;
        for (int64_t j = 0; j < spins; ++j)
            for (int64_t k = 0; k < spins; ++k)
                grad_J[(tiles[i].group * row + j) * row + k] += parts[i][j * spins + k];
    }
}

}  // extern "C"
