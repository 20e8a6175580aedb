// Causal attention by the definition, for heads of any width up to 256, f32 or bf16: the twin of attention.cu, which says
// what a Tile, a Range and a Form are and how the keys of a segment are joined. A warp a row; a lane a key.
#include "attention.h"

namespace attention_simple {
constexpr int PER_LANE = 8; // columns of a lane: E <= 256

// The row of joined key c of a tile's segment.
GPU int key_row(const Tile &t, int c) { return c < t.trunk ? t.trunk0 + c : t.own0 + c - t.trunk; }

template <class T> GPU float dot(const T *a, const T *b, int width) {
  float sum = 0.0f;
  for (int e = 0; e < width; e++) sum += to_f32(a[e]) * to_f32(b[e]);
  return sum;
}

// From a dot product the exponent (times log2 e), and the slope of the cap.
GPU float exponent(const Form &f, float dot, float &slope) {
  slope = 1.0f;
  if (f.cap <= 0.0f) return dot * f.scale;
  const float th = tanh_(dot * f.scale);
  slope = 1.0f - th * th;
  return f.cap * th;
}

GPU float warp_max(float v) {
  UNROLL for (int m = 16; m; m >>= 1) v = max_(v, shfl_xor(v, m));
  return v;
}

template <class T>
GPU void forward(const T *q, const T *k, const T *v, T *out, float *lse, const Tile *tiles, const Form &f, int width) {
  const Tile t = tiles[blockIdx.x];
  const int head = blockIdx.y, kv = head / (f.heads / f.kv_heads), lane = threadIdx.x % 32, warps = blockDim.x / 32;
  for (int r = threadIdx.x / 32; r < t.rows; r += warps) {
    const size_t row = t.row0 + r;
    const int pos = t.trunk + t.row0 + r - t.own0, first = f.window && pos >= f.window ? pos + 1 - f.window : 0;
    float acc[PER_LANE], top = NONE, sum = 0.0f;
    UNROLL for (int i = 0; i < PER_LANE; i++) acc[i] = 0.0f;
    for (int base = first; base <= pos; base += 32) {
      const int c = base + lane;
      float slope, x = NONE;
      if (c <= pos)
        x = exponent(f, dot(q + (row * f.heads + head) * width,
                            k + ((size_t)key_row(t, c) * f.kv_heads + kv) * width, width), slope);
      const float best = max_(top, warp_max(x)), keep = exp2_fast(top - best), p = c <= pos ? exp2_fast(x - best) : 0.0f;
      top = best;
      sum = sum * keep + warp_sum(p);
      UNROLL for (int i = 0; i < PER_LANE; i++) acc[i] *= keep;
      for (int j = 0; j < 32 && base + j <= pos; j++) {
        const float pj = shfl_from(p, j);
        const T *value = v + ((size_t)key_row(t, base + j) * f.kv_heads + kv) * width;
        UNROLL for (int i = 0; i < PER_LANE; i++) if (lane + i * 32 < width) acc[i] += pj * to_f32(value[lane + i * 32]);
      }
    }
    UNROLL for (int i = 0; i < PER_LANE; i++)
      if (lane + i * 32 < width) out[(row * f.heads + head) * width + lane + i * 32] = As<T>::of(acc[i] / sum);
    if (lane == 0) lse[row * f.heads + head] = top + log_(sum) * LOG2_E;
  }
}

// delta (rows, H) = the dot products of the rows of out and of its gradient, by head. A thread a row and head.
template <class T> GPU void dots(const T *out, const T *grad, float *delta, int n, int width) {
  const int at = blockIdx.x * blockDim.x + threadIdx.x;
  if (at < n) delta[at] = dot(out + (size_t)at * width, grad + (size_t)at * width, width);
}

template <class T>
GPU void backward_q(const T *q, const T *k, const T *v, const T *grad, const float *lse, const float *delta, T *dq,
                    const Tile *tiles, const Form &f, int width, float back) {
  const Tile t = tiles[blockIdx.x];
  const int head = blockIdx.y, kv = head / (f.heads / f.kv_heads), lane = threadIdx.x % 32, warps = blockDim.x / 32;
  for (int r = threadIdx.x / 32; r < t.rows; r += warps) {
    const size_t at = (size_t)(t.row0 + r) * f.heads + head;
    const int pos = t.trunk + t.row0 + r - t.own0, first = f.window && pos >= f.window ? pos + 1 - f.window : 0;
    float acc[PER_LANE];
    UNROLL for (int i = 0; i < PER_LANE; i++) acc[i] = 0.0f;
    for (int base = first; base <= pos; base += 32) {
      const int c = base + lane;
      float slope, ds = 0.0f;
      if (c <= pos) {
        const size_t key = ((size_t)key_row(t, c) * f.kv_heads + kv) * width;
        const float p = exp2_fast(exponent(f, dot(q + at * width, k + key, width), slope) - lse[at]);
        ds = p * (dot(grad + at * width, v + key, width) - delta[at]) * slope * back;
      }
      for (int j = 0; j < 32 && base + j <= pos; j++) {
        const float dj = shfl_from(ds, j);
        const T *key = k + ((size_t)key_row(t, base + j) * f.kv_heads + kv) * width;
        UNROLL for (int i = 0; i < PER_LANE; i++) if (lane + i * 32 < width) acc[i] += dj * to_f32(key[lane + i * 32]);
      }
    }
    UNROLL for (int i = 0; i < PER_LANE; i++) if (lane + i * 32 < width) dq[at * width + lane + i * 32] = As<T>::of(acc[i]);
  }
}

// A warp a key; a lane a query of one head of the group.
template <class T>
GPU void backward_kv(const T *q, const T *k, const T *v, const T *grad, const float *lse, const float *delta, T *dk, T *dv,
                     const Tile *tiles, const Range *ranges, const int *range_at, const Form &f, int width, float back) {
  const Tile t = tiles[blockIdx.x];
  const int kv = blockIdx.y, group = f.heads / f.kv_heads, lane = threadIdx.x % 32, warps = blockDim.x / 32;
  for (int r = threadIdx.x / 32; r < t.rows; r += warps) {
    const int pos = t.trunk + t.row0 + r - t.own0; // of the key
    const size_t key = ((size_t)(t.row0 + r) * f.kv_heads + kv) * width;
    float gk[PER_LANE], gv[PER_LANE];
    UNROLL for (int i = 0; i < PER_LANE; i++) gk[i] = gv[i] = 0.0f;
    for (int i = range_at[blockIdx.x]; i < range_at[blockIdx.x + 1]; i++) {
      const Range range = ranges[i];
      for (int head = kv * group; head < (kv + 1) * group; head++)
        for (int base = range.first; base < range.end; base += 32) {
          const int row = base + lane, at_pos = range.at + row - range.first;
          const size_t at = (size_t)row * f.heads + head;
          float slope, p = 0.0f, ds = 0.0f;
          if (row < range.end && sees(f, at_pos, pos)) {
            p = exp2_fast(exponent(f, dot(q + at * width, k + key, width), slope) - lse[at]);
            ds = p * (dot(grad + at * width, v + key, width) - delta[at]) * slope * back;
          }
          for (int j = 0; j < 32 && base + j < range.end; j++) {
            const float pj = shfl_from(p, j), dj = shfl_from(ds, j);
            const size_t from = ((size_t)(base + j) * f.heads + head) * width;
            UNROLL for (int c = 0; c < PER_LANE; c++) if (lane + c * 32 < width) {
              gk[c] += dj * to_f32(q[from + lane + c * 32]);
              gv[c] += pj * to_f32(grad[from + lane + c * 32]);
            }
          }
        }
    }
    UNROLL for (int c = 0; c < PER_LANE; c++) if (lane + c * 32 < width) {
      dk[key + lane + c * 32] = As<T>::of(gk[c]);
      dv[key + lane + c * 32] = As<T>::of(gv[c]);
    }
  }
}
} // namespace attention_simple

#define ATTENTION_SIMPLE(T, NAME)                                                                                            \
  KERNEL(128, 1) attention_simple_forward_##NAME(const T *q, const T *k, const T *v, T *out, float *lse, const Tile *tiles,  \
                                                 Form f, int width) {                                                        \
    attention_simple::forward<T>(q, k, v, out, lse, tiles, f, width);                                                        \
  }                                                                                                                          \
  EXPORT(attention_simple_forward_##NAME)                                                                                    \
  KERNEL(256, 1) attention_simple_dots_##NAME(const T *out, const T *grad, float *delta, int n, int width) {                 \
    attention_simple::dots<T>(out, grad, delta, n, width);                                                                   \
  }                                                                                                                          \
  EXPORT(attention_simple_dots_##NAME)                                                                                       \
  KERNEL(128, 1) attention_simple_backward_q_##NAME(const T *q, const T *k, const T *v, const T *grad, const float *lse,     \
                                                    const float *delta, T *dq, const Tile *tiles, Form f, int width,         \
                                                    float back) {                                                            \
    attention_simple::backward_q<T>(q, k, v, grad, lse, delta, dq, tiles, f, width, back);                                   \
  }                                                                                                                          \
  EXPORT(attention_simple_backward_q_##NAME)                                                                                 \
  KERNEL(128, 1) attention_simple_backward_kv_##NAME(const T *q, const T *k, const T *v, const T *grad, const float *lse,    \
                                                     const float *delta, T *dk, T *dv, const Tile *tiles,                    \
                                                     const Range *ranges, const int *range_at, Form f, int width,            \
                                                     float back) {                                                           \
    attention_simple::backward_kv<T>(q, k, v, grad, lse, delta, dk, dv, tiles, ranges, range_at, f, width, back);            \
  }                                                                                                                          \
  EXPORT(attention_simple_backward_kv_##NAME)
ATTENTION_SIMPLE(float, f32)
ATTENTION_SIMPLE(bf16, bf16)
