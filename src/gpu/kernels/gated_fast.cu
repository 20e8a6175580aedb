// Gated linear units in bf16 whose rows are multiples of 8 numbers: as gated.cu, to the bit, eight numbers a thread, read and
// written 16 bytes at a time. A grid of (columns, rows).
#include "columns.h"
#include "gated.h"

KERNEL(256, 1) gated_forward_fast(const bf16 *gate, const bf16 *up, bf16 *y, int rows, int width, int stride, int activation) {
  const int col = (blockIdx.x * 256 + threadIdx.x) * COLS;
  if (col >= width) return;
  for (int row = blockIdx.y; row < rows; row += gridDim.y) {
    const size_t from = (size_t)row * stride + col, to = (size_t)row * width + col;
    Cols x, u;
    x.v = load16(gate + from);
    u.v = load16(up + from);
    UNROLL for (int i = 0; i < COLS; i++) {
      float value, slope;
      gated::activate(activation, to_f32(x.e[i]), value, slope);
      x.e[i] = to_bf16(value * to_f32(u.e[i]));
    }
    store16(y + to, x.v);
  }
}
EXPORT(gated_forward_fast)

KERNEL(256, 1) gated_backward_fast(const bf16 *gate, const bf16 *up, const bf16 *grad, bf16 *d_gate, bf16 *d_up, bf16 *inner,
                                   int rows, int width, int stride, int activation) {
  const int col = (blockIdx.x * 256 + threadIdx.x) * COLS;
  if (col >= width) return;
  for (int row = blockIdx.y; row < rows; row += gridDim.y) {
    const size_t from = (size_t)row * stride + col, at = (size_t)row * width + col;
    Cols x, u, g, again;
    x.v = load16(gate + from);
    u.v = load16(up + from);
    g.v = load16(grad + at);
    UNROLL for (int i = 0; i < COLS; i++) {
      const float by = to_f32(g.e[i]), times = to_f32(u.e[i]);
      float value, slope;
      gated::activate(activation, to_f32(x.e[i]), value, slope);
      x.e[i] = to_bf16(by * times * slope);
      u.e[i] = to_bf16(by * value);
      again.e[i] = to_bf16(value * times);
    }
    store16(d_gate + from, x.v);
    store16(d_up + from, u.v);
    if (inner) store16(inner + at, again.v);
  }
}
EXPORT(gated_backward_fast)
