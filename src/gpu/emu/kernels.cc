// The kernels, as C++.
#include "../kernels/all.cu"
#include "faults.cu"
