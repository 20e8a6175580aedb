// The functions of kernels/gpu.h, by the emulation.
#pragma once
#include "emu.h"

#define GPU inline
#define KERNEL(threads, blocks) extern "C" void
#define EXPORT(name) static emu::Register register_##name = emu::Register::of<&name>(#name);
#define UNROLL
#define STRUCTURE(T)                                                                                                         \
  template <> struct emu::Name<T> { static std::string of() { return #T ":" + std::to_string(sizeof(T)); } };
#define threadIdx (emu::thread->tid)
#define blockIdx (emu::block->id)
#define blockDim (emu::block->dim)
#define gridDim (emu::block->grid)

struct bf16 { uint16_t bits; };
template <> struct emu::Name<bf16> { static std::string of() { return "bf16"; } };
struct uint4 { uint32_t x, y, z, w; };

// Shared memory.
template <class T> using Sh = emu::Ptr<T>;
template <class T> GPU emu::Ptr<T> smem(unsigned offset) { return {offset}; }

// Numbers.
GPU float to_f32(bf16 x) {
  const uint32_t u = uint32_t(x.bits) << 16;
  float f;
  memcpy(&f, &u, 4);
  return f;
}
GPU bf16 to_bf16(float x) {
  uint32_t u;
  memcpy(&u, &x, 4);
  if (x != x) return {0x7fff};
  return {uint16_t((u + 0x7fff + (u >> 16 & 1)) >> 16)};
}
GPU uint32_t pack_bf16(float lo, float hi) { return to_bf16(lo).bits | uint32_t(to_bf16(hi).bits) << 16; }
GPU uint32_t bits_of(float x) {
  uint32_t u;
  memcpy(&u, &x, 4);
  return u;
}
GPU float of_bits(uint32_t u) {
  float x;
  memcpy(&x, &u, 4);
  return x;
}
GPU float exp_(float x) { return expf(x); }
GPU double exp_(double x) { return exp(x); }
GPU float log_(float x) { return logf(x); }
GPU float sqrt_(float x) { return sqrtf(x); }
GPU double sqrt_(double x) { return sqrt(x); }
GPU float tanh_(float x) { return tanhf(x); }
GPU float exp2_fast(float x) { return exp2f(x); }
GPU float log2_fast(float x) { return log2f(x); }
GPU float rsqrt_fast(float x) { return 1.0f / sqrtf(x); }
GPU float tanh_fast(float x) { return 1.0f - 2.0f / (1.0f + exp2f(x * 2.885390082f)); }

// Barriers and shuffles. A barrier knows where it stands, so that threads cannot meet at different ones.
GPU void sync_block(const char *file = __builtin_FILE(), int line = __builtin_LINE()) { emu::wait_block(file, line); }
template <class T> GPU T shfl_from(T v, int lane) {
  static_assert(sizeof(T) <= 8);
  memcpy(&emu::mine().u[0], &v, sizeof v);
  emu::wait_warp(emu::Op::Shfl);
  memcpy(&v, &emu::slot(lane & 31).u[0], sizeof v);
  return v;
}
template <class T> GPU T shfl_xor(T v, int mask) { return shfl_from(v, emu::thread->lane ^ mask); }

// Global memory, 16 bytes at a time.
GPU uint4 load16(const void *p) {
  if (uintptr_t(p) % 16) emu::fail("unaligned load of 16 bytes");
  uint4 v;
  memcpy(&v, p, 16);
  return v;
}
GPU void store16(void *p, uint4 v) {
  if (uintptr_t(p) % 16) emu::fail("unaligned store of 16 bytes");
  memcpy(p, &v, 16);
}
template <class T> GPU void copy16(emu::Ptr<T> dst, const T *src, bool there) {
  if (there && uintptr_t(src) % 16) emu::fail("unaligned copy of 16 bytes");
  emu::issue(dst.at, 16, src, there ? 16 : 0);
}
GPU void copy_commit() { emu::commit(); }
template <int LEFT> GPU void copy_wait() { emu::wait_groups(LEFT); }

// Tensor cores.
GPU void emulated_ldmatrix(uint32_t (&r)[4], emu::Ptr<bf16> row, bool transposed) {
  emu::touch(row.at, 16, false);
  emu::mine().u[0] = row.at;
  emu::wait_warp(emu::Op::Ldmatrix);
  const unsigned lane = emu::thread->lane;
  if (lane == 0) emu::count_conflicts();
  for (unsigned m = 0; m < 4; m++) {
    uint16_t v[2];
    for (unsigned e = 0; e < 2; e++) {
      const unsigned i = lane / 4, j = lane % 4 * 2 + e;
      const unsigned from = transposed ? j : i, col = transposed ? i : j;
      memcpy(&v[e], emu::block->shared + emu::slot(m * 8 + from).u[0] + col * 2, 2);
    }
    r[m] = v[0] | uint32_t(v[1]) << 16;
  }
}
GPU void ldmatrix4(uint32_t (&r)[4], emu::Ptr<bf16> row) { emulated_ldmatrix(r, row, false); }
GPU void ldmatrix4_t(uint32_t (&r)[4], emu::Ptr<bf16> row) { emulated_ldmatrix(r, row, true); }
GPU void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  emu::Slot &s = emu::mine();
  for (int i = 0; i < 4; i++) {
    s.u[i] = a[i];
    s.f[i] = c[i];
  }
  s.u[4] = b0;
  s.u[5] = b1;
  if (emu::thread->lane == 0) emu::block->counts.mma++;
  emu::wait_warp(emu::Op::Mma);
  for (int i = 0; i < 4; i++) c[i] = emu::slot(emu::thread->lane).f[i];
}
