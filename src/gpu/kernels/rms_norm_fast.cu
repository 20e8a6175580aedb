// RMSNorm backward in bf16 for widths that are a multiple of 8 and at most 4096: as rms_norm.cu, with a row's numbers
// and dw in registers, read and written 16 bytes at a time.
#include "columns.h"

namespace rms_norm_fast {
// Sums over the block of two values at once; red: 2 * 32 floats.
GPU void block_sum2(float &a, float &b, Sh<float> red) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  a = warp_sum(a);
  b = warp_sum(b);
  if (lane == 0) {
    red[warp] = a;
    red[32 + warp] = b;
  }
  sync_block();
  a = lane < warps ? float(red[lane]) : 0.0f;
  b = lane < warps ? float(red[32 + lane]) : 0.0f;
  a = warp_sum(a);
  b = warp_sum(b);
  sync_block(); // red is written again for the next row
}

template <int CHUNKS>
GPU void backward(const bf16 *x, const bf16 *w, const bf16 *g, const bf16 *residual, bf16 *dx, float *dw_parts, int rows, int d,
                  float offset, float eps) {
  float dw[CHUNKS][COLS], wv[CHUNKS][COLS];
  UNROLL for (int c = 0; c < CHUNKS; c++) {
    const int col = (c * blockDim.x + threadIdx.x) * COLS;
    UNROLL for (int i = 0; i < COLS; i++) {
      dw[c][i] = 0.0f;
      wv[c][i] = col < d ? offset + to_f32(w[col + i]) : 0.0f;
    }
  }
  for (int row = blockIdx.x; row < rows; row += gridDim.x) {
    float xs[CHUNKS][COLS], gs[CHUNKS][COLS];
    float squares = 0.0f, pull = 0.0f;
    UNROLL for (int c = 0; c < CHUNKS; c++) {
      const int col = (c * blockDim.x + threadIdx.x) * COLS;
      Cols xu, gu;
      if (col < d) {
        xu.v = load16(x + (size_t)row * d + col);
        gu.v = load16(g + (size_t)row * d + col);
      }
      UNROLL for (int i = 0; i < COLS; i++) {
        xs[c][i] = col < d ? to_f32(xu.e[i]) : 0.0f;
        gs[c][i] = col < d ? to_f32(gu.e[i]) : 0.0f;
        squares += xs[c][i] * xs[c][i];
        pull += gs[c][i] * wv[c][i] * xs[c][i];
      }
    }
    block_sum2(squares, pull, smem<float>(0));
    const float r = rsqrt_fast(squares / d + eps);
    const float back = pull / d * r * r * r;
    UNROLL for (int c = 0; c < CHUNKS; c++) {
      const int col = (c * blockDim.x + threadIdx.x) * COLS;
      if (col >= d) continue;
      Cols out, res;
      if (residual) res.v = load16(residual + (size_t)row * d + col);
      UNROLL for (int i = 0; i < COLS; i++) {
        float v = gs[c][i] * wv[c][i] * r - xs[c][i] * back;
        if (residual) v += to_f32(res.e[i]);
        out.e[i] = to_bf16(v);
        dw[c][i] += gs[c][i] * xs[c][i] * r;
      }
      store16(dx + (size_t)row * d + col, out.v);
    }
  }
  UNROLL for (int c = 0; c < CHUNKS; c++) {
    const int col = (c * blockDim.x + threadIdx.x) * COLS;
    if (col >= d) continue;
    UNROLL for (int i = 0; i < COLS; i++) dw_parts[(size_t)blockIdx.x * d + col + i] = dw[c][i];
  }
}
} // namespace rms_norm_fast

#define RMS_NORM_FAST(CHUNKS)                                                                                                  \
  KERNEL(256, 2) rms_norm_backward_fast_##CHUNKS(const bf16 *x, const bf16 *w, const bf16 *g, const bf16 *residual, bf16 *dx,  \
                                                 float *dw_parts, int rows, int d, float offset, float eps) {                  \
    rms_norm_fast::backward<CHUNKS>(x, w, g, residual, dx, dw_parts, rows, d, offset, eps);                                    \
  }                                                                                                                            \
  EXPORT(rms_norm_backward_fast_##CHUNKS)
RMS_NORM_FAST(1) // widths up to 2048
RMS_NORM_FAST(2) // up to 4096
