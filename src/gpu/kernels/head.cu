// What logits say of their targets, and the gradient by the logits. With a cap every logit z is cap * tanh(z / cap).
#include "reduce.h"

namespace head {
// What is known of some logits of a row: the largest, and the sum of exp(z - top), as in online softmax (Milakov & Gimelshein
// 2018).
struct Part {
  float top, sum;
};

GPU Part merge(const Part &a, const Part &b) {
  if (b.sum == 0.0f) return a; // by the sum, which a NaN has reached even where the maximum has passed it over
  if (a.sum == 0.0f) return b;
  Part p;
  p.top = max_(a.top, b.top);
  p.sum = exp_(a.top - p.top) * a.sum + exp_(b.top - p.top) * b.sum;
  return p;
}

GPU Part warp_merge(Part p) {
  UNROLL for (int m = 1; m < 32; m <<= 1) {
    Part other;
    other.top = shfl_xor(p.top, m);
    other.sum = shfl_xor(p.sum, m);
    p = merge(p, other);
  }
  return p;
}

// Over the block, to all; in 2 * 32 words of shared memory.
GPU Part block_merge(Part p) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  const Sh<float> top = smem<float>(0), sum = smem<float>(128);
  p = warp_merge(p);
  if (lane == 0) {
    top[warp] = p.top;
    sum[warp] = p.sum;
  }
  sync_block();
  p.sum = 0.0f;
  if (lane < warps) {
    p.top = top[lane];
    p.sum = sum[lane];
  }
  return warp_merge(p);
}

GPU float capped(float z, float cap) { return cap > 0.0f ? cap * tanh_(z / cap) : z; }
} // namespace head

// A block a row of `logits` (rows, vocab), which the cap replaces in place. Log-probability of the target, logarithm of the
// sum of exponentials (nats), and whether no logit is larger than the target's.
KERNEL(256, 1) head_score(float *logits, const int *targets, float *logp, float *lse, int *correct, int vocab, float cap) {
  const int row = blockIdx.x;
  float *z = logits + (size_t)row * vocab;
  head::Part p{0.0f, 0.0f};
  for (int i = threadIdx.x; i < vocab; i += blockDim.x) {
    const float v = head::capped(z[i], cap);
    if (cap > 0.0f) z[i] = v;
    p = head::merge(p, head::Part{v, 1.0f});
  }
  p = head::block_merge(p); // has a barrier, so that another thread's logits are there
  if (threadIdx.x != 0) return;
  const float target = z[targets[row]], log_sum = log_(p.sum);
  logp[row] = target - p.top - log_sum;
  lse[row] = p.top + log_sum;
  correct[row] = target >= p.top;
}
EXPORT(head_score)

// dz = g (onehot - softmax(z)), times the slope 1 - (z / cap)^2 of the cap, of logits as head_score leaves them: the gradient
// of sum(g_i logp_i).
namespace head {
template <class T>
GPU void gradient(const float *logits, const int *targets, const float *lse, const float *g, T *dz, int rows, int vocab,
                  float cap) {
  const int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= (int64_t)rows * vocab) return;
  const int row = at / vocab, i = at % vocab;
  const float z = logits[at];
  float d = -exp_(z - lse[row]);
  if (i == targets[row]) d += 1.0f;
  if (cap > 0.0f) d *= 1.0f - z / cap * (z / cap);
  dz[at] = As<T>::of(g[row] * d);
}
} // namespace head

#define HEAD_GRADIENT(T, NAME)                                                                                               \
  KERNEL(256, 1) head_gradient_##NAME(const float *logits, const int *targets, const float *lse, const float *g, T *dz,      \
                                      int rows, int vocab, float cap) {                                                      \
    head::gradient<T>(logits, targets, lse, g, dz, rows, vocab, cap);                                                        \
  }                                                                                                                          \
  EXPORT(head_gradient_##NAME)
HEAD_GRADIENT(float, f32)
HEAD_GRADIENT(bf16, bf16)
