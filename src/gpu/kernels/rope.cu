// Rotary position embedding in place: a head [a, b] becomes [a cos - b sin, b cos + a sin]; with direction -1 back.
#include "gpu.h"

namespace rope {
// A thread a pair. Rows of `stride`, of which the first heads * 2 half numbers are turned; the tables hold a row of
// `half` numbers for each position.
template <class T>
GPU void rotate(T *x, const int *positions, const float *cos, const float *sin, int rows, int heads, int half, int stride,
                float direction) {
  const int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= (int64_t)rows * heads * half) return;
  const int i = at % half, head = at / half % heads, row = at / half / heads;
  const size_t angle = (size_t)positions[row] * half + i;
  const float c = cos[angle], s = sin[angle] * direction;
  T *a = x + (size_t)row * stride + head * 2 * half + i, *b = a + half;
  const float u = to_f32(*a), v = to_f32(*b);
  *a = As<T>::of(u * c - v * s);
  *b = As<T>::of(v * c + u * s);
}
} // namespace rope

#define ROPE(T, NAME)                                                                                                        \
  KERNEL(256, 1) rope_##NAME(T *x, const int *positions, const float *cos, const float *sin, int rows, int heads, int half,  \
                             int stride, float direction) {                                                                  \
    rope::rotate<T>(x, positions, cos, sin, rows, heads, half, stride, direction);                                           \
  }                                                                                                                          \
  EXPORT(rope_##NAME)
ROPE(float, f32)
ROPE(bf16, bf16)
