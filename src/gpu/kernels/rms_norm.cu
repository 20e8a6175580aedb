// RMSNorm of rows of any width: y = x r (offset + w), r = 1 / sqrt(mean(x^2) + eps).
// With h = g (offset + w): dx = r (h - x r^2 mean(h x)) (+ the residual's gradient), dw = sum_t g x r.
#include "reduce.h"

namespace rms_norm {
// A block a row. With `added` the row is x + added, which goes to `sum` and is normalised as it is stored there.
template <class T>
GPU void forward(const T *x, const T *added, const T *w, T *sum, T *y, int d, float offset, float eps) {
  const size_t row = (size_t)blockIdx.x * d;
  float squares = 0.0f;
  for (int i = threadIdx.x; i < d; i += blockDim.x) {
    float v = to_f32(x[row + i]);
    if (added) {
      const T both = As<T>::of(v + to_f32(added[row + i]));
      sum[row + i] = both;
      v = to_f32(both);
    }
    squares += v * v;
  }
  const float r = 1.0f / sqrt_(block_sum(squares, smem<float>(0)) / d + eps);
  const T *from = added ? sum : x; // what this thread wrote itself
  for (int i = threadIdx.x; i < d; i += blockDim.x)
    y[row + i] = As<T>::of(to_f32(from[row + i]) * r * (offset + to_f32(w[i])));
}

// A block takes rows blockIdx.x, + gridDim.x, ..; each thread sums its own columns of dw into the block's row of parts.
template <class T>
GPU void backward(const T *x, const T *w, const T *g, const T *residual, T *dx, float *dw_parts, int rows, int d, float offset,
                  float eps) {
  float *dw = dw_parts + (size_t)blockIdx.x * d;
  for (int i = threadIdx.x; i < d; i += blockDim.x) dw[i] = 0.0f;
  for (int row = blockIdx.x; row < rows; row += gridDim.x) {
    const size_t first = (size_t)row * d;
    float squares = 0.0f, pull = 0.0f;
    for (int i = threadIdx.x; i < d; i += blockDim.x) {
      const float v = to_f32(x[first + i]);
      squares += v * v;
      pull += to_f32(g[first + i]) * (offset + to_f32(w[i])) * v;
    }
    squares = block_sum(squares, smem<float>(0));
    pull = block_sum(pull, smem<float>(0));
    const float r = 1.0f / sqrt_(squares / d + eps);
    const float back = pull / d * r * r * r;
    for (int i = threadIdx.x; i < d; i += blockDim.x) {
      const float v = to_f32(x[first + i]), grad = to_f32(g[first + i]);
      const float straight = grad * (offset + to_f32(w[i])) * r - v * back;
      dx[first + i] = As<T>::of(residual ? straight + to_f32(residual[first + i]) : straight);
      dw[i] += grad * v * r;
    }
  }
}
} // namespace rms_norm

#define RMS_NORM(T, NAME)                                                                                                    \
  KERNEL(128, 1) rms_norm_forward_##NAME(const T *x, const T *added, const T *w, T *sum, T *y, int d, float offset, float eps) { \
    rms_norm::forward<T>(x, added, w, sum, y, d, offset, eps);                                                               \
  }                                                                                                                          \
  EXPORT(rms_norm_forward_##NAME)                                                                                            \
  KERNEL(128, 1) rms_norm_backward_##NAME(const T *x, const T *w, const T *g, const T *residual, T *dx, float *dw_parts,     \
                                          int rows, int d, float offset, float eps) {                                        \
    rms_norm::backward<T>(x, w, g, residual, dx, dw_parts, rows, d, offset, eps);                                            \
  }                                                                                                                          \
  EXPORT(rms_norm_backward_##NAME)
RMS_NORM(float, f32)
RMS_NORM(bf16, bf16)
