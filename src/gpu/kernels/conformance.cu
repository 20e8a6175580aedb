// One tiny kernel for every function of gpu.h: what the device's instructions do is compared with what the
// emulation says they do. Every result but those of the approximations is exact.
#include "gpu.h"

// Conversions: any bit pattern of f32.
KERNEL(128, 1) check_convert(const float *x, bf16 *narrow, float *wide, uint32_t *packed, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  narrow[i] = to_bf16(x[i]);
  wide[i] = to_f32(to_bf16(x[i]));
  packed[i] = pack_bf16(x[i], x[n - 1 - i]);
}
EXPORT(check_convert)

// The bits of numbers, and numbers of bits; whole numbers of 16 bits keep their sign.
KERNEL(128, 1) check_bits(const float *x, const int16_t *add, uint32_t *bits, float *moved, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  bits[i] = bits_of(x[i]);
  moved[i] = of_bits(bits_of(x[i]) + uint32_t(int(add[i])));
}
EXPORT(check_bits)

// The functions that are accurate to a few units in the last place: four results for each x.
KERNEL(128, 1) check_functions(const float *x, float *y, double *roots, double *powers, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const float positive = x[i] < 0.0f ? -x[i] : x[i];
  y[i * 4] = exp_(x[i]);
  y[i * 4 + 1] = log_(positive);
  y[i * 4 + 2] = sqrt_(positive);
  y[i * 4 + 3] = tanh_(x[i]);
  roots[i] = sqrt_(double(positive));
  powers[i] = exp_(double(x[i]));
}
EXPORT(check_functions)

// The approximations: four results for each x.
KERNEL(128, 1) check_approximations(const float *x, float *y, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const float positive = x[i] < 0.0f ? -x[i] : x[i];
  y[i * 4] = exp2_fast(x[i]);
  y[i * 4 + 1] = log2_fast(positive);
  y[i * 4 + 2] = rsqrt_fast(positive);
  y[i * 4 + 3] = tanh_fast(x[i]);
}
EXPORT(check_approximations)

// shfl_xor by every mask, and the sum over a warp.
KERNEL(64, 1) check_warp(const float *x, float *y, float *sums) {
  const int at = threadIdx.x;
  UNROLL for (int m = 1; m < 32; m++) y[at * 32 + m] = shfl_xor(x[at], m);
  y[at * 32] = x[at];
  sums[at] = warp_sum(x[at]);
}
EXPORT(check_warp)

// shfl_xor and shfl_from of f64 and of whole numbers.
KERNEL(32, 1) check_shuffles(const double *x, const int *i, double *y, int *j) {
  const int lane = threadIdx.x;
  UNROLL for (int from = 0; from < 32; from++) {
    y[lane * 32 + from] = shfl_from(x[lane], from);
    j[lane * 32 + from] = shfl_from(i[lane], from);
  }
  y[1024 + lane] = shfl_xor(x[lane], 5);
  j[1024 + lane] = shfl_xor(i[lane], 5);
}
EXPORT(check_shuffles)

// sync_block and shared memory to its last byte: each thread reads what the thread `by` further on wrote, many times.
KERNEL(256, 1) check_block(const int *x, int *y, int rounds, int last) {
  Sh<int> s = smem<int>(0), end = smem<int>(last);
  int v = x[threadIdx.x];
  for (int r = 0; r < rounds; r++) {
    s[threadIdx.x] = v;
    sync_block();
    v = 3 * s[(threadIdx.x + r + 1) % 256] + 1;
    sync_block();
  }
  if (threadIdx.x == 0) end[0] = v;
  sync_block();
  y[threadIdx.x] = v ^ end[0];
}
EXPORT(check_block)

// Indices of a grid and block of three dimensions.
KERNEL(24, 1) check_indices(int *y) {
  const int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  y[block * 24 + thread] = block * 1000 + thread;
}
EXPORT(check_indices)

// load16, store16
KERNEL(32, 1) check_wide(const uint32_t *x, uint32_t *y) {
  uint4 v = load16(x + threadIdx.x * 4);
  const uint32_t first = v.x;
  v.x = v.y;
  v.y = v.z;
  v.z = v.w;
  v.w = first;
  store16(y + (31 - threadIdx.x) * 4, v);
}
EXPORT(check_wide)

// copy16 in three groups, awaited one by one; zeros where a source is not there; more than 48 KB of shared memory.
KERNEL(32, 1) check_copy(const bf16 *x, bf16 *y, int far) {
  const int lane = threadIdx.x;
  Sh<bf16> s = smem<bf16>(far);
  UNROLL for (int g = 0; g < 3; g++) {
    copy16(s + (g * 32 + lane) * 8, x + (g * 32 + lane) * 8, (lane + g) % 3 != 0);
    copy_commit();
  }
  copy_wait<2>();
  sync_block();
  UNROLL for (int i = 0; i < 8; i++) y[(31 - lane) * 8 + i] = s[(31 - lane) * 8 + i];
  copy_wait<1>();
  sync_block();
  UNROLL for (int i = 0; i < 8; i++) y[(32 + 31 - lane) * 8 + i] = s[(32 + 31 - lane) * 8 + i];
  copy_wait<0>();
  sync_block();
  UNROLL for (int i = 0; i < 8; i++) y[(64 + 31 - lane) * 8 + i] = s[(64 + 31 - lane) * 8 + i];
}
EXPORT(check_copy)

// ldmatrix4 and its transpose: where each number of four 8 x 8 matrices goes.
KERNEL(32, 1) check_ldmatrix(const bf16 *x, uint32_t *y) {
  const int lane = threadIdx.x;
  Sh<bf16> s = smem<bf16>(0);
  UNROLL for (int i = 0; i < 8; i++) s[lane * 8 + i] = x[lane * 8 + i];
  sync_block();
  uint32_t r[4], t[4];
  ldmatrix4(r, s + lane * 8);
  ldmatrix4_t(t, s + lane * 8);
  UNROLL for (int i = 0; i < 4; i++) {
    y[lane * 8 + i] = r[i];
    y[lane * 8 + 4 + i] = t[i];
  }
}
EXPORT(check_ldmatrix)

// mma: the operands as each lane holds them; whole numbers, so that every sum is exact.
KERNEL(32, 1) check_mma(const uint32_t *a, const uint32_t *b, const float *c, float *y) {
  const int lane = threadIdx.x;
  const uint32_t fa[4] = {a[lane * 4], a[lane * 4 + 1], a[lane * 4 + 2], a[lane * 4 + 3]};
  float sum[4] = {c[lane * 4], c[lane * 4 + 1], c[lane * 4 + 2], c[lane * 4 + 3]};
  mma(sum, fa, b[lane * 2], b[lane * 2 + 1]);
  mma(sum, fa, b[lane * 2], b[lane * 2 + 1]);
  UNROLL for (int i = 0; i < 4; i++) y[lane * 4 + i] = sum[i];
}
EXPORT(check_mma)

// Does nothing: what a launch costs.
KERNEL(32, 1) check_nothing(int *x) {
  if (x) x[threadIdx.x] = 1;
}
EXPORT(check_nothing)
