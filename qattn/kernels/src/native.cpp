// The compiled inner loops of qattn: every function is `extern "C"`, named qattn_..., and takes
// pointers, 64-bit sizes and, last, the number of threads. qattn/kernels/__init__.py calls them.
#include "chain_backward.hpp"
#include "chain_forward.hpp"
#include "counts.hpp"
#include "dense/calls.hpp"
#include "gibbs.hpp"
#include "quadrature_calls.hpp"
#include "tap.hpp"
