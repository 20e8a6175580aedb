// Gated linear units: y = act(gate) up; d_gate = g up act'(gate), d_up = g act(gate).
#include "gated.h"

namespace gated {
// A thread a number. Gate and up are rows of `stride`, of which the first `width` count; y is (rows, width).
template <class T> GPU void forward(const T *gate, const T *up, T *y, int rows, int width, int stride, int activation) {
  const int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= (int64_t)rows * width) return;
  const size_t from = (size_t)(at / width) * stride + at % width;
  float value, slope;
  activate(activation, to_f32(gate[from]), value, slope);
  y[at] = As<T>::of(value * to_f32(up[from]));
}

// d_gate and d_up lie as gate and up do, and may be them; `inner`, if it is there, becomes y again.
template <class T>
GPU void backward(const T *gate, const T *up, const T *grad, T *d_gate, T *d_up, T *inner, int rows, int width, int stride,
                  int activation) {
  const int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= (int64_t)rows * width) return;
  const size_t from = (size_t)(at / width) * stride + at % width;
  const float u = to_f32(up[from]), g = to_f32(grad[at]);
  float value, slope;
  activate(activation, to_f32(gate[from]), value, slope);
  d_gate[from] = As<T>::of(g * u * slope);
  d_up[from] = As<T>::of(g * value);
  if (inner) inner[at] = As<T>::of(value * u);
}
} // namespace gated

#define GATED(T, NAME)                                                                                                       \
  KERNEL(256, 1) gated_forward_##NAME(const T *gate, const T *up, T *y, int rows, int width, int stride, int activation) {   \
    gated::forward<T>(gate, up, y, rows, width, stride, activation);                                                         \
  }                                                                                                                          \
  EXPORT(gated_forward_##NAME)                                                                                               \
  KERNEL(256, 1) gated_backward_##NAME(const T *gate, const T *up, const T *grad, T *d_gate, T *d_up, T *inner, int rows,    \
                                       int width, int stride, int activation) {                                              \
    gated::backward<T>(gate, up, grad, d_gate, d_up, inner, rows, width, stride, activation);                                \
  }                                                                                                                          \
  EXPORT(gated_backward_##NAME)
GATED(float, f32)
GATED(bf16, bf16)
