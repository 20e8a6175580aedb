// Rows of a table by token, and the table's gradient: for each token the sum of its places' rows, in their order.
#include "gpu.h"

namespace embedding {
template <class T> GPU void forward(const T *table, const int *tokens, T *y, int rows, int d, float scale) {
  const int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= (int64_t)rows * d) return;
  y[at] = As<T>::of(to_f32(table[(size_t)tokens[at / d] * d + at % d]) * scale);
}

// A block a distinct token: its places are order[starts[b]] up to order[starts[b + 1]].
template <class T>
GPU void backward(const T *g, const int *tokens, const int *starts, const int *order, float *d_table, int d, float scale) {
  const int first = starts[blockIdx.x], end = starts[blockIdx.x + 1];
  float *to = d_table + (size_t)tokens[blockIdx.x] * d;
  for (int i = threadIdx.x; i < d; i += blockDim.x) {
    float sum = 0.0f;
    for (int p = first; p < end; p++) sum += to_f32(g[(size_t)order[p] * d + i]);
    to[i] += sum * scale;
  }
}
} // namespace embedding

#define EMBEDDING(T, NAME)                                                                                                   \
  KERNEL(256, 1) embedding_forward_##NAME(const T *table, const int *tokens, T *y, int rows, int d, float scale) {           \
    embedding::forward<T>(table, tokens, y, rows, d, scale);                                                                 \
  }                                                                                                                          \
  EXPORT(embedding_forward_##NAME)                                                                                           \
  KERNEL(128, 1) embedding_backward_##NAME(const T *g, const int *tokens, const int *starts, const int *order, float *d_table, \
                                           int d, float scale) {                                                             \
    embedding::backward<T>(g, tokens, starts, order, d_table, d, scale);                                                     \
  }                                                                                                                          \
  EXPORT(embedding_backward_##NAME)
EMBEDDING(float, f32)
EMBEDDING(bf16, bf16)
