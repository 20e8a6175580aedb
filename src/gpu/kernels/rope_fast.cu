// Rotary position embedding in bf16 of heads whose halves are multiples of 8 numbers: as rope.cu, to the bit, eight pairs a
// thread, read and written 16 bytes at a time. A grid of (pairs, rows).
#include "columns.h"

KERNEL(256, 1) rope_fast(bf16 *x, const int *positions, const float *cos, const float *sin, int rows, int heads, int half,
                         int stride, float direction) {
  const int at = (blockIdx.x * 256 + threadIdx.x) * COLS;
  if (at >= heads * half) return;
  const int head = at / half, i = at % half;
  for (int row = blockIdx.y; row < rows; row += gridDim.y) {
    const size_t angle = (size_t)positions[row] * half + i;
    bf16 *first = x + (size_t)row * stride + head * 2 * half + i;
    Cols a, b;
    WideCols c, s;
    a.v = load16(first);
    b.v = load16(first + half);
    UNROLL for (int part = 0; part < 2; part++) {
      c.v[part] = load16(cos + angle + 4 * part);
      s.v[part] = load16(sin + angle + 4 * part);
    }
    UNROLL for (int n = 0; n < COLS; n++) {
      const float u = to_f32(a.e[n]), v = to_f32(b.e[n]), turn = s.e[n] * direction;
      a.e[n] = to_bf16(u * c.e[n] - v * turn);
      b.e[n] = to_bf16(v * c.e[n] + u * turn);
    }
    store16(first, a.v);
    store16(first + half, b.v);
  }
}
EXPORT(rope_fast)
