// Sums over the states of half of a model's spins, and products with a table of pairs of states.
//
// State a of m spins has spin j up where bit j of a is set. A vector over states for 16 queries is
// an array of `lanes`, one for each state.
#pragma once
#include <type_traits>
#include "../lanes.hpp"

namespace dense {

#if !defined(__AVX512F__)
#define LANES_BYTES 64  // sixteen queries whatever the machine: products go by `piece`
#include "../lanes.hpp"
#endif

// Rows and tiles of a product that are kept in registers at once, and floats of a register.
#if defined(__AVX512F__)
constexpr int ROWS = 8, TILES = 2, WIDTH = 16;
#elif defined(__AVX2__)
constexpr int ROWS = 4, TILES = 1, WIDTH = 8;
#else
constexpr int ROWS = 2, TILES = 1, WIDTH = 4;
#endif
typedef float piece __attribute__((vector_size(4 * WIDTH)));
constexpr int PIECES = LANES / WIDTH;

// The part of a table that is used twice while it is in the first cache: so many states each way.
constexpr int64_t PART = 64;

// Memory that is not initialised.
struct Scratch {
    lanes* start;
    explicit Scratch(int64_t count) : start(new lanes[count]) {}
    ~Scratch() { delete[] start; }
    Scratch(const Scratch&) = delete;
};

// x[a] = a factor for each spin: up[j] where it is up, down[j] where it is down.
INLINE void products_over_spins(lanes* x, int64_t spins, const lanes* up, const lanes* down) {
    x[0] = splat(1.0f);
    for (int64_t j = 0, m = 1; j < spins; ++j, m *= 2)
        for (int64_t a = 0; a < m; ++a) {
            x[a + m] = x[a] * up[j];
            x[a] *= down[j];
        }
}

// x[a] = start plus a term for each spin.
template <class T>
INLINE void sums_over_spins(T* x, int64_t spins, T start, const T* up, const T* down) {
    x[0] = start;
    for (int64_t j = 0, m = 1; j < spins; ++j, m *= 2)
        for (int64_t a = 0; a < m; ++a) {
            x[a + m] = x[a] + up[j];
            x[a] += down[j];
        }
}

// Sums of x over the states where each spin is up, and where it is down; x[0] becomes that of all.
template <class T>
INLINE void fold(T* x, int64_t spins, T* up, T* down) {
    for (int64_t j = spins - 1; j > 0; --j) {
        int64_t m = int64_t(1) << j;
        T high[2] = {}, low[2] = {};  // two of each, since an addition waits for the last one
        for (int64_t a = 0; a < m; a += 2)
            for (int64_t i = 0; i < 2; ++i) {
                high[i] += x[a + i + m];
                low[i] += x[a + i];
                x[a + i] += x[a + i + m];
            }
        up[j] = high[0] + high[1];
        down[j] = low[0] + low[1];
    }
    up[0] = x[1];
    down[0] = x[0];
    x[0] += x[1];
}

INLINE float total(lanes x) {
    float sum = 0.0f;
    for (int64_t i = 0; i < LANES; ++i) sum += x[i];
    return sum;
}

// pairs[j * row + k] = the sum of x over the states where spins j > k are both up. Destroys x.
inline void fold_pairs(float* x, int64_t spins, float* pairs, int64_t row) {
    float down[32];
    for (int64_t j = spins - 1; j > 0; --j) {
        int64_t m = int64_t(1) << j;
        for (int64_t a = 0; a < m; ++a) x[a] += x[a + m];
        fold(x + m, j, pairs + j * row, down);
    }
}

// sum[i][v] += Σ_k W[i * row + k * column] x[k * step + v], of V registers and R rows.
template <int R, int V>
INLINE void add_products(piece (&sum)[R][V], const float* W, int64_t row, int64_t column,
                         const piece* const (&x)[V], int64_t step, int64_t count) {
    for (int64_t k = 0; k < count; ++k) {
        piece value[V];
        for (int v = 0; v < V; ++v) value[v] = x[v][k * step];
        for (int i = 0; i < R; ++i)
            for (int v = 0; v < V; ++v) sum[i][v] += W[i * row + k * column] * value[v];
    }
}

// out = W x for `size` states of each, or out += W x, for V tiles.
template <int R, int V>
INLINE void multiply(lanes* out, int64_t out_tile, const float* W, int64_t row, int64_t column,
                     const lanes* x, int64_t x_tile, int64_t size, bool add) {
    constexpr int P = V * PIECES;
    const piece* from[P];
    for (int v = 0; v < P; ++v) from[v] = (const piece*)(x + v / PIECES * x_tile) + v % PIECES;
    for (int64_t i = 0; i < size; i += R) {
        piece sum[R][P] = {}, *to[P];
        for (int v = 0; v < P; ++v) to[v] = (piece*)(out + i + v / PIECES * out_tile) + v % PIECES;
        if (add)
            for (int r = 0; r < R; ++r)
                for (int v = 0; v < P; ++v) sum[r][v] = to[v][r * PIECES];
        add_products<R, P>(sum, W + i * row, row, column, from, PIECES, size);
        for (int r = 0; r < R; ++r)
            for (int v = 0; v < P; ++v) to[v][r * PIECES] = sum[r][v];
    }
}

// [K x_b, Kᵀ x_a] of V tiles; x holds x_a and x_b one after the other, a tile `x_tile` further on.
template <int R, int V>
void times_K(lanes* out, int64_t out_tile, const float* K, int64_t row, int64_t states,
             const lanes* x, int64_t x_tile) {
    int64_t size = states < PART ? states : PART;
    for (int64_t a = 0; a < states; a += size)
        for (int64_t b = 0; b < states; b += size) {
            const float* part = K + a * row + b;
            multiply<R, V>(out + a, out_tile, part, row, 1, x + states + b, x_tile, size, b > 0);
            multiply<R, V>(out + states + b, out_tile, part, 1, row, x + a, x_tile, size, a > 0);
        }
}

// Calls work with the largest number of rows that divides the number of states.
template <class Work>
INLINE void with_rows(int64_t states, Work work) {
    if (states >= ROWS) work(std::integral_constant<int, ROWS>());
    else if (states >= 4) work(std::integral_constant<int, 4>());
    else work(std::integral_constant<int, 2>());
}

template <int... I>
INLINE lanes zip(lanes a, lanes b) {
#if defined(__clang__)
    return __builtin_shufflevector(a, b, I...);
#else
    return __builtin_shuffle(a, b, ints{I...});
#endif
}

// out[i * step] = lane i of each of the 16 x: four rounds of a perfect shuffle.
INLINE void transpose(const lanes* x, lanes* out, int64_t step) {
    lanes now[16], next[16];
    for (int i = 0; i < 16; ++i) now[i] = x[i];
    for (int round = 0; round < 4; ++round) {
        for (int i = 0; i < 8; ++i) {
            lanes a = now[i], b = now[i + 8];
            next[2 * i] = zip<0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23>(a, b);
            next[2 * i + 1] = zip<8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31>(a, b);
        }
        for (int i = 0; i < 16; ++i) now[i] = next[i];
    }
    for (int i = 0; i < 16; ++i) out[i * step] = now[i];
}

}  // namespace dense
