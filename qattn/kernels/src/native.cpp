// The compiled inner loops of qattn: every function is `extern "C"`, named qattn_..., and takes
// pointers, 64-bit sizes and, last, the number of threads. qattn/kernels/__init__.py calls them.
#include <cstdint>

#include "chain_backward.hpp"
#include "chain_forward.hpp"
#include "counts.hpp"
#include "dense/calls.hpp"
#include "gibbs.hpp"
#include "quadrature_calls.hpp"
#include "tap.hpp"

// Raised with every function that is new, or takes other arguments: qattn/kernels/__init__.py does
// not use a library that was built before.
extern "C" int64_t qattn_interface() { return 1; }
