// The compiled inner loops of qattn: every function is `extern "C"`, named qattn_..., and takes
// pointers, 64-bit sizes and, last, the number of threads. qattn/kernels/__init__.py calls them.
#include "dense/calls.hpp"
#include "lanes.hpp"
#include "parallel.hpp"
