// A mean of two arrays.
#include "gpu.h"

namespace mix {
// y = share x + rest y
template <class T> GPU void mix(float *y, const T *x, int64_t n, float share, float rest) {
  const int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (at < n) y[at] = share * to_f32(x[at]) + rest * y[at];
}
} // namespace mix

KERNEL(256, 1) mix_f32(float *y, const float *x, int64_t n, float share, float rest) { mix::mix<float>(y, x, n, share, rest); }
EXPORT(mix_f32)
KERNEL(256, 1) mix_bf16(float *y, const bf16 *x, int64_t n, float share, float rest) { mix::mix<bf16>(y, x, n, share, rest); }
EXPORT(mix_bf16)
