// Gibbs sweeps: every spin is drawn anew given the latest values of the others, a register of
// chains at a time. A tile of chains stays in the cache for all sweeps of a call.
#pragma once
#include <vector>

#include "lanes.hpp"
#include "parallel.hpp"

namespace gibbs {

#define MEMBER inline __attribute__((always_inline))

// Vectors of a tile, and coupled spins whose fields are summed together: as registers allow.
#if defined(__AVX512F__)
constexpr int VECTORS = 4;
#else
constexpr int VECTORS = 1;
#endif
constexpr int ROWS = 4;

typedef uint32_t words __attribute__((vector_size(sizeof(lanes))));

INLINE uint64_t mixed(uint64_t x) {  // SplitMix64
    x += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

INLINE words turned(words x, int by) { return (x << by) | (x >> (32 - by)); }

// xoshiro128++ in each lane (Blackman and Vigna, ACM Trans. Math. Softw. 47, 36 (2021)).
struct Random {
    words a, b, c, d;

    // A stream of its own for each lane, by the number of the first.
    void begin(uint64_t seed, uint64_t number) {
        for (int64_t i = 0; i < LANES; ++i) {
            uint64_t first = mixed(mixed(seed) ^ mixed(number + i)), second = mixed(first);
            a[i] = (uint32_t)first, b[i] = (uint32_t)(first >> 32);
            c[i] = (uint32_t)second, d[i] = (uint32_t)(second >> 32);
        }
    }

    // Uniform between 0 and 1, at the odd multiples of 2^-24.
    MEMBER lanes uniform() {
        words result = turned(a + d, 7) + a, shifted = b << 9;
        c ^= a; d ^= b; b ^= c; a ^= d; c ^= shifted;
        d = turned(d, 11);
        return __builtin_convertvector((ints)(result >> 9), lanes) * splat(0x1p-23f)
               + splat(0x1p-24f);
    }
};

// Chains side by side: their spins and fields, (n, VECTORS), and what differs between them.
struct Tile {
    std::vector<lanes> s, h;
    lanes scale[VECTORS];  // -2 over the temperature
    ints length[VECTORS];  // number of spins
    Random random[VECTORS];

    // Draws spin j in the field b: up with probability 1/(1 + exp(scale b)). Returns its change.
    MEMBER lanes draw(int64_t j, int v, lanes b) {
        lanes odds = exponential(scale[v] * b);
        ints up = random[v].uniform() * (splat(1.0f) + odds) < splat(1.0f);
        ints there = ints{} + (int32_t)j < length[v];
        lanes drawn = select(there, select(up, splat(1.0f), splat(-1.0f)), lanes{});
        lanes change = drawn - s[j * VECTORS + v];
        s[j * VECTORS + v] = drawn;
        return change;
    }
};

// A matrix of couplings.
struct Dense {
    const float* J;
    int64_t n;

    // Fields of `rows` spins from j on.
    template <int rows>
    MEMBER void fields(const Tile& tile, int64_t j, lanes (&b)[rows][VECTORS]) const {
        for (int r = 0; r < rows; ++r)
            for (int v = 0; v < VECTORS; ++v) b[r][v] = tile.h[(j + r) * VECTORS + v];
        const float* row = J + j * n;
        const lanes* s = tile.s.data();
        for (int64_t k = 0; k < n; ++k, s += VECTORS)
            for (int r = 0; r < rows; ++r)
                for (int v = 0; v < VECTORS; ++v) b[r][v] += splat(row[r * n + k]) * s[v];
    }

    // Draws them one after the other; each passes its change on to those after it.
    template <int rows>
    MEMBER void draw(Tile& tile, int64_t j) const {
        lanes b[rows][VECTORS];
        fields<rows>(tile, j, b);
        for (int r = 0; r < rows; ++r)
            for (int v = 0; v < VECTORS; ++v) {
                lanes change = tile.draw(j + r, v, b[r][v]);
                for (int later = r + 1; later < rows; ++later)
                    b[later][v] += splat(J[(j + later) * n + j + r]) * change;
            }
    }

    void sweep(Tile& tile) const {
        int64_t j = 0;
        for (; j + ROWS <= n; j += ROWS) draw<ROWS>(tile, j);
        for (; j < n; ++j) draw<1>(tile, j);
    }

    void begin(const Tile&) {}
    void field(const Tile& tile, int64_t j, lanes (&b)[1][VECTORS]) const { fields<1>(tile, j, b); }
};

// Couplings of each spin to `degree` others, some of which may be 0.
struct Neighbours {
    const float* J;
    const int64_t* others;
    int64_t n, degree;

    void begin(const Tile&) {}

    MEMBER void field(const Tile& tile, int64_t j, lanes (&b)[1][VECTORS]) const {
        for (int v = 0; v < VECTORS; ++v) b[0][v] = tile.h[j * VECTORS + v];
        for (int64_t e = j * degree; e < (j + 1) * degree; ++e)
            for (int v = 0; v < VECTORS; ++v)
                b[0][v] += splat(J[e]) * tile.s[others[e] * VECTORS + v];
    }

    void sweep(Tile& tile) const {
        for (int64_t j = 0; j < n; ++j) {
            lanes b[1][VECTORS];
            field(tile, j, b);
            for (int v = 0; v < VECTORS; ++v) tile.draw(j, v, b[0][v]);
        }
    }
};

// J_jk = sign U_j U_k: the sum of all U s, which is kept up to date, stands for the other spins.
struct Product {
    const float* U;
    float sign;
    int64_t n;
    lanes sum[VECTORS];

    void begin(const Tile& tile) {
        for (int v = 0; v < VECTORS; ++v) sum[v] = lanes{};
        for (int64_t k = 0; k < n; ++k)
            for (int v = 0; v < VECTORS; ++v) sum[v] += splat(U[k]) * tile.s[k * VECTORS + v];
    }

    MEMBER void field(const Tile& tile, int64_t j, lanes (&b)[1][VECTORS]) const {
        for (int v = 0; v < VECTORS; ++v) {
            lanes others = sum[v] - splat(U[j]) * tile.s[j * VECTORS + v];
            b[0][v] = tile.h[j * VECTORS + v] + splat(sign * U[j]) * others;
        }
    }

    void sweep(Tile& tile) {
        begin(tile);  // no rounding adds up over the sweeps
        for (int64_t j = 0; j < n; ++j) {
            lanes b[1][VECTORS];
            field(tile, j, b);
            for (int v = 0; v < VECTORS; ++v) sum[v] += splat(U[j]) * tile.draw(j, v, b[0][v]);
        }
    }
};

// Sweeps over the columns of s, (groups, n, columns), then their fields b, unless it is null.
// Streams of noise belong to columns, so that reads do not depend on the number of threads.
struct Chains {
    float* s;
    float* b;
    const float* h;
    const int32_t* lengths;    // (groups, columns); null: n
    const float* temperature;  // (groups, columns); null: 1
    int64_t groups, n, columns, sweeps, seed;

    template <class OfGroup>
    void run(int64_t threads, OfGroup couplings) const {
        int64_t width = LANES * VECTORS, tiles = (columns + width - 1) / width;
        std::vector<Tile> scratch(threads);
        parallel_for(groups * tiles, threads, [&](int64_t thread, int64_t item) {
            int64_t group = item / tiles, first = item % tiles * width;
            Tile& tile = scratch[thread];
            begin(tile, group, first);
            auto of_group = couplings(group);
            of_group.begin(tile);
            for (int64_t i = 0; i < sweeps; ++i) of_group.sweep(tile);
            for (int64_t j = 0; j < n; ++j) {
                lanes of_spin[1][VECTORS] = {};
                if (b) of_group.field(tile, j, of_spin);
                for (int v = 0; v < VECTORS; ++v) {
                    int64_t column = first + v * LANES, here = columns - column;
                    if (here <= 0) break;
                    int64_t place = (group * n + j) * columns + column;
                    store_some(s + place, tile.s[j * VECTORS + v], here);
                    if (b) store_some(b + place, of_spin[0][v], here);
                }
            }
        });
    }

    void begin(Tile& tile, int64_t group, int64_t first) const {
        tile.s.assign(n * VECTORS, lanes{});
        tile.h.assign(n * VECTORS, lanes{});
        for (int v = 0; v < VECTORS; ++v) {
            int64_t column = first + v * LANES, here = columns - column;
            if (here <= 0) break;
            int64_t at = group * columns + column;
            tile.random[v].begin((uint64_t)seed, (uint64_t)at);
            tile.length[v] = ints{} + (int32_t)n;
            lanes T = splat(1.0f);
            for (int64_t i = 0; i < LANES && i < here; ++i) {
                if (lengths) tile.length[v][i] = lengths[at + i];
                if (temperature) T[i] = temperature[at + i];
            }
            tile.scale[v] = splat(-2.0f) / T;
            for (int64_t j = 0; j < n; ++j) {
                int64_t place = (group * n + j) * columns + column;
                tile.s[j * VECTORS + v] = load_some(s + place, here);
                tile.h[j * VECTORS + v] = load_some(h + place, here);
            }
        }
    }
};

}  // namespace gibbs

extern "C" {

// J is (groups, n, n).
void qattn_gibbs_dense(const float* J, float* s, float* b, const float* h, const int32_t* lengths,
                       const float* temperature, int64_t groups, int64_t n, int64_t columns,
                       int64_t sweeps, int64_t seed, int64_t threads) {
    gibbs::Chains{s, b, h, lengths, temperature, groups, n, columns, sweeps, seed}.run(
        threads, [=](int64_t g) { return gibbs::Dense{J + g * n * n, n}; });
}

// J is (groups, n, degree), others (n, degree).
void qattn_gibbs_neighbours(const float* J, const int64_t* others, int64_t degree, float* s,
                            float* b, const float* h, const int32_t* lengths,
                            const float* temperature, int64_t groups, int64_t n, int64_t columns,
                            int64_t sweeps, int64_t seed, int64_t threads) {
    gibbs::Chains{s, b, h, lengths, temperature, groups, n, columns, sweeps, seed}.run(
        threads,
        [=](int64_t g) { return gibbs::Neighbours{J + g * n * degree, others, n, degree}; });
}

// U is (groups, n).
void qattn_gibbs_product(const float* U, int64_t sign, float* s, float* b, const float* h,
                         const int32_t* lengths, const float* temperature, int64_t groups,
                         int64_t n, int64_t columns, int64_t sweeps, int64_t seed,
                         int64_t threads) {
    gibbs::Chains{s, b, h, lengths, temperature, groups, n, columns, sweeps, seed}.run(
        threads, [=](int64_t g) { return gibbs::Product{U + g * n, (float)sign, n, {}}; });
}

}  // extern "C"
