// Plain work on rows: sums of parts and of columns, bias, gathering, changes of type.
#include "gpu.h"

// to (+)= the rows of parts in their order: the same bits every time.
KERNEL(256, 1) sum_parts(const float *parts, float *to, int count, int d, int add) {
  const int col = blockIdx.x * blockDim.x + threadIdx.x;
  if (col >= d) return;
  float sum = add ? to[col] : 0.0f;
  for (int i = 0; i < count; i++) sum += parts[(size_t)i * d + col];
  to[col] = sum;
}
EXPORT(sum_parts)

namespace rows {
// parts[y] = the sums of each column over rows y * height up to (y + 1) * height.
template <class T> GPU void column_sums(const T *x, float *parts, int n, int d, int height) {
  const int col = blockIdx.x * blockDim.x + threadIdx.x, first = blockIdx.y * height;
  if (col >= d) return;
  const int end = first + height < n ? first + height : n;
  float sum = 0.0f;
  for (int row = first; row < end; row++) sum += to_f32(x[(size_t)row * d + col]);
  parts[(size_t)blockIdx.y * d + col] = sum;
}

template <class T> GPU void add_bias(T *x, const T *bias, int n, int d) {
  const int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (at < (int64_t)n * d) x[at] = As<T>::of(to_f32(x[at]) + to_f32(bias[at % d]));
}

// y[i] = x[from[i]]
template <class T> GPU void gather(const T *x, const int *from, T *y, int n, int d) {
  const int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (at < (int64_t)n * d) y[at] = x[(size_t)from[at / d] * d + at % d];
}

template <class A, class B> GPU void cast(const A *x, B *y, int64_t n) {
  const int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (at < n) y[at] = As<B>::of(to_f32(x[at]));
}
} // namespace rows

#define ROWS(T, NAME)                                                                                                        \
  KERNEL(256, 1) column_sums_##NAME(const T *x, float *parts, int n, int d, int height) {                                    \
    rows::column_sums<T>(x, parts, n, d, height);                                                                            \
  }                                                                                                                          \
  EXPORT(column_sums_##NAME)                                                                                                 \
  KERNEL(256, 1) add_bias_##NAME(T *x, const T *bias, int n, int d) { rows::add_bias<T>(x, bias, n, d); }                    \
  EXPORT(add_bias_##NAME)                                                                                                    \
  KERNEL(256, 1) gather_##NAME(const T *x, const int *from, T *y, int n, int d) { rows::gather<T>(x, from, y, n, d); }       \
  EXPORT(gather_##NAME)
ROWS(float, f32)
ROWS(bf16, bf16)

KERNEL(256, 1) narrow(const float *x, bf16 *y, int64_t n) { rows::cast<float, bf16>(x, y, n); }
EXPORT(narrow)
KERNEL(256, 1) widen(const bf16 *x, float *y, int64_t n) { rows::cast<bf16, float>(x, y, n); }
EXPORT(widen)
