// Work on several threads, each with a fixed share, so that sums do not depend on timing.
#pragma once
#include <cstdint>
#include <thread>
#include <vector>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

// While it lives, this thread's denormal numbers are 0: arithmetic with them is many times slower.
struct FlushDenormals {
#if defined(__SSE__)
    unsigned before = _mm_getcsr();
    FlushDenormals() { _mm_setcsr(before | 0x8040); }
    ~FlushDenormals() { _mm_setcsr(before); }
#endif
};

// Calls work(thread, item) for every item; thread t takes the items t, t + threads, ...
template <class Work>
void parallel_for(int64_t items, int64_t threads, Work work) {
    if (threads > items) threads = items;
    auto share = [&](int64_t t) {
        FlushDenormals flush;
        for (int64_t item = t; item < items; item += threads) work(t, item);
    };
    if (threads <= 1) {
        if (items > 0) { threads = 1; share(0); }
        return;
    }
    std::vector<std::thread> others;
    for (int64_t t = 1; t < threads; ++t) others.emplace_back(share, t);
    share(0);
    for (auto& other : others) other.join();
}
