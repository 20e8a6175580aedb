// The norm of each head's numbers and its rotation, in one pass: rms_norm.cu and rope.cu one after the other, what is between them
// rounded as it is stored there. A warp a head of at most 256 numbers, each lane pairs i and i + half.
#include "reduce.h"

namespace head_norm {
constexpr int PAIRS = 4; // of a lane, at most

// x (rows, heads, 2 half), y as large; w (2 half,).
template <class T>
GPU void forward(const T *x, const T *w, const int *positions, const float *cos, const float *sin, T *y, int rows, int heads,
                 int half, float offset, float eps) {
  const int lane = threadIdx.x % 32;
  const int64_t at = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / 32;
  if (at >= (int64_t)rows * heads) return;
  const T *from = x + at * 2 * half;
  T *to = y + at * 2 * half;
  float squares = 0.0f;
  for (int i = lane; i < 2 * half; i += 32) squares += to_f32(from[i]) * to_f32(from[i]);
  const float r = 1.0f / sqrt_(warp_sum(squares) / (2 * half) + eps);
  const size_t angle = (size_t)positions[at / heads] * half;
  for (int i = lane; i < half; i += 32) {
    const float u = to_f32(As<T>::of(to_f32(from[i]) * r * (offset + to_f32(w[i]))));
    const float v = to_f32(As<T>::of(to_f32(from[i + half]) * r * (offset + to_f32(w[i + half]))));
    const float c = cos[angle + i], s = sin[angle + i];
    to[i] = As<T>::of(u * c - v * s);
    to[i + half] = As<T>::of(v * c + u * s);
  }
}

// g, the gradient of what is turned, becomes that of x. Warps take heads in turn, each lane sums its own columns of dw, and the
// block's warps are added in their order into its row of parts. Shared memory: warps * 2 half floats.
template <class T>
GPU void backward(const T *x, const T *w, const int *positions, const float *cos, const float *sin, T *g, float *dw_parts,
                  int rows, int heads, int half, float offset, float eps) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32, d = 2 * half;
  float dw[PAIRS][2];
  UNROLL for (int p = 0; p < PAIRS; p++) dw[p][0] = dw[p][1] = 0.0f;
  const int64_t step = (int64_t)gridDim.x * warps;
  for (int64_t at = (int64_t)blockIdx.x * warps + warp; at < (int64_t)rows * heads; at += step) {
    const T *from = x + at * d;
    T *to = g + at * d;
    const size_t angle = (size_t)positions[at / heads] * half;
    float xs[PAIRS][2], gs[PAIRS][2];
    float squares = 0.0f, pull = 0.0f;
    UNROLL for (int p = 0; p < PAIRS; p++) {
      const int i = p * 32 + lane;
      const bool there = i < half;
      const float c = there ? cos[angle + i] : 0.0f, s = there ? sin[angle + i] : 0.0f;
      const float u = there ? to_f32(to[i]) : 0.0f, v = there ? to_f32(to[i + half]) : 0.0f;
      xs[p][0] = there ? to_f32(from[i]) : 0.0f;
      xs[p][1] = there ? to_f32(from[i + half]) : 0.0f;
      gs[p][0] = to_f32(As<T>::of(u * c + v * s));
      gs[p][1] = to_f32(As<T>::of(v * c - u * s));
      UNROLL for (int side = 0; side < 2; side++) {
        const float weight = there ? offset + to_f32(w[i + side * half]) : 0.0f;
        squares += xs[p][side] * xs[p][side];
        pull += gs[p][side] * weight * xs[p][side];
      }
    }
    squares = warp_sum(squares);
    pull = warp_sum(pull);
    const float r = 1.0f / sqrt_(squares / d + eps);
    const float back = pull / d * r * r * r;
    UNROLL for (int p = 0; p < PAIRS; p++) {
      const int i = p * 32 + lane;
      if (i >= half) continue;
      UNROLL for (int side = 0; side < 2; side++) {
        const int col = i + side * half;
        to[col] = As<T>::of(gs[p][side] * (offset + to_f32(w[col])) * r - xs[p][side] * back);
        dw[p][side] += gs[p][side] * xs[p][side] * r;
      }
    }
  }
  Sh<float> sums = smem<float>(0);
  UNROLL for (int p = 0; p < PAIRS; p++) {
    const int i = p * 32 + lane;
    if (i >= half) continue;
    sums[warp * d + i] = dw[p][0];
    sums[warp * d + i + half] = dw[p][1];
  }
  sync_block();
  for (int col = threadIdx.x; col < d; col += blockDim.x) {
    float sum = 0.0f;
    for (int other = 0; other < warps; other++) sum += float(sums[other * d + col]);
    dw_parts[(size_t)blockIdx.x * d + col] = sum;
  }
}
} // namespace head_norm

#define HEAD_NORM(T, NAME)                                                                                                   \
  KERNEL(128, 1) head_norm_forward_##NAME(const T *x, const T *w, const int *positions, const float *cos, const float *sin,  \
                                          T *y, int rows, int heads, int half, float offset, float eps) {                    \
    head_norm::forward<T>(x, w, positions, cos, sin, y, rows, heads, half, offset, eps);                                     \
  }                                                                                                                          \
  EXPORT(head_norm_forward_##NAME)                                                                                           \
  KERNEL(128, 1) head_norm_backward_##NAME(const T *x, const T *w, const int *positions, const float *cos, const float *sin, \
                                           T *g, float *dw_parts, int rows, int heads, int half, float offset, float eps) {  \
    head_norm::backward<T>(x, w, positions, cos, sin, g, dw_parts, rows, heads, half, offset, eps);                          \
  }                                                                                                                          \
  EXPORT(head_norm_backward_##NAME)
HEAD_NORM(float, f32)
HEAD_NORM(bf16, bf16)
