// The norm of all gradients, clipping, and AdamW, over arenas that all parameters share.
#include "reduce.h"

// parts[b] = the sum of squares of numbers b * span up to (b + 1) * span, in f64.
KERNEL(256, 1) square_parts(const float *g, double *parts, int64_t n, int span) {
  const int64_t first = (int64_t)blockIdx.x * span, end = first + span < n ? first + span : n;
  double sum = 0.0;
  for (int64_t i = first + threadIdx.x; i < end; i += blockDim.x) sum += double(g[i]) * double(g[i]);
  sum = block_sum(sum, smem<double>(0));
  if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}
EXPORT(square_parts)

// One block. clip: the norm; min(1, max_norm / (norm + 1e-6)), or 1 if max_norm is 0; and 1 if the norm or the loss is
// not finite, so that the step must not be taken.
KERNEL(256, 1) clip_factor(const double *parts, const float *loss, float *clip, int count, float max_norm) {
  double sum = 0.0;
  for (int i = threadIdx.x; i < count; i += blockDim.x) sum += parts[i];
  sum = block_sum(sum, smem<double>(0));
  if (threadIdx.x != 0) return;
  const double norm = sqrt_(sum), factor = max_norm > 0.0f ? double(max_norm) / (norm + 1e-6) : 1.0;
  clip[0] = float(norm);
  clip[1] = factor < 1.0 ? float(factor) : 1.0f;
  const bool finite = norm - norm == 0.0 && *loss - *loss == 0.0f;
  clip[2] = finite ? 0.0f : 1.0f;
}
EXPORT(clip_factor)

namespace adamw {
// Numbers first.. of the arena; whether weight decay reaches them.
struct Chunk {
  int64_t first;
  int count, decays;
};
// The scalars of one step, rounded to f32 once.
struct Step { float keep, one_minus_beta1, beta2, one_minus_beta2, step_size, root_correction, eps; };

// p <- p keep, m <- m + (g - m)(1 - beta1), v <- v beta2 + (1 - beta2) g^2, p <- p - step_size m / (sqrt(v) / root_correction
// + eps): Loshchilov & Hutter 2019, in the arithmetic of torch.optim.AdamW.
GPU float updated(const Step &s, float p, float g, float &m, float &v, bool decays) {
  m += (g - m) * s.one_minus_beta1;
  v = v * s.beta2 + s.one_minus_beta2 * g * g;
  const float denominator = sqrt_(v) / s.root_correction + s.eps;
  return (decays ? p * s.keep : p) - s.step_size * (m / denominator);
}

// An f32 number in 4 bytes of which bf16 is a part: the number rounded to bf16, ties to even, and what is missing of
// its bits. A tie that was rounded down is one bit too many for 16; it becomes the number below it, 2^-24 of it away.
GPU float joined(bf16 value, int16_t low) { return of_bits(bits_of(to_f32(value)) + uint32_t(int(low))); }
struct Halves {
  bf16 *value;
  int16_t *low;

  GPU float get(int64_t at) const { return joined(value[at], low[at]); }
  GPU void set(int64_t at, float x) const {
    const bf16 near = to_bf16(x);
    const int missing = x == x ? int(bits_of(x) - bits_of(to_f32(near))) : 0;
    value[at] = near;
    low[at] = int16_t(missing < 0x7fff ? missing : 0x7fff);
  }
};

// Numbers in f32 and, if it is there, their copy in bf16.
struct Whole {
  float *master;
  bf16 *short_;

  GPU float get(int64_t at) const { return master[at]; }
  GPU void set(int64_t at, float x) const {
    master[at] = x;
    if (short_) short_[at] = to_bf16(x);
  }
};

// A block a chunk. clip as clip_factor left it.
template <class Kept>
GPU void step(const Kept &kept, float *m, float *v, const float *g, const float *clip, const Chunk *chunks, const Step &s) {
  if (clip[2] != 0.0f) return;
  const float scale = clip[1];
  const Chunk c = chunks[blockIdx.x];
  for (int i = threadIdx.x; i < c.count; i += blockDim.x) {
    const int64_t at = c.first + i;
    kept.set(at, updated(s, kept.get(at), g[at] * scale, m[at], v[at], c.decays != 0));
  }
}
} // namespace adamw
STRUCTURE(adamw::Chunk)
STRUCTURE(adamw::Step)

KERNEL(256, 1) adamw_step(float *master, bf16 *short_, float *m, float *v, const float *g, const float *clip,
                          const adamw::Chunk *chunks, adamw::Step s) {
  adamw::step(adamw::Whole{master, short_}, m, v, g, clip, chunks, s);
}
EXPORT(adamw_step)
KERNEL(256, 1) adamw_step_halves(bf16 *value, int16_t *low, float *m, float *v, const float *g, const float *clip,
                                 const adamw::Chunk *chunks, adamw::Step s) {
  adamw::step(adamw::Halves{value, low}, m, v, g, clip, chunks, s);
}
EXPORT(adamw_step_halves)

// Numbers in f32 to halves, and back.
KERNEL(256, 1) halve(const float *x, bf16 *value, int16_t *low, int64_t n) {
  const int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (at < n) adamw::Halves{value, low}.set(at, x[at]);
}
EXPORT(halve)
KERNEL(256, 1) join(const bf16 *value, const int16_t *low, float *x, int64_t n) {
  const int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (at < n) x[at] = adamw::joined(value[at], low[at]);
}
EXPORT(join)
