// mma.sync.m16n8k16 of bf16 operands with f32 sums (PTX ISA, "Matrix Fragments for mma.m16n8k16").
#include "emu.h"

namespace emu {
static float wide(uint32_t half) {
  const uint32_t u = half << 16;
  float f;
  memcpy(&f, &u, 4);
  return f;
}

// c += a b, by all lanes of a warp: u 0..4 hold a lane's part of a, 4..6 that of b, f that of c.
void mma_warp(Slot (&lanes)[WARP]) {
  float a[16][16], b[16][8], c[16][8] = {};
  for (unsigned l = 0; l < WARP; l++) {
    const unsigned group = l / 4, pair = l % 4 * 2;
    for (unsigned r = 0; r < 4; r++) {
      const unsigned row = group + r % 2 * 8, col = pair + r / 2 * 8;
      a[row][col] = wide(lanes[l].u[r] & 0xffff);
      a[row][col + 1] = wide(uint32_t(lanes[l].u[r]) >> 16);
    }
    for (unsigned r = 0; r < 2; r++) {
      b[pair + r * 8][group] = wide(lanes[l].u[4 + r] & 0xffff);
      b[pair + r * 8 + 1][group] = wide(uint32_t(lanes[l].u[4 + r]) >> 16);
    }
  }
  for (unsigned i = 0; i < 16; i++)
    for (unsigned k = 0; k < 16; k++)
      for (unsigned j = 0; j < 8; j++) c[i][j] += a[i][k] * b[k][j];
  for (unsigned l = 0; l < WARP; l++) {
    const unsigned group = l / 4, pair = l % 4 * 2;
    for (unsigned i = 0; i < 4; i++) lanes[l].f[i] += c[group + i / 2 * 8][pair + i % 2];
  }
}
} // namespace emu
