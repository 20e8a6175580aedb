// The part of CUDA C++ that kernels here may use: by nvcc the device's own instructions, by a host's compiler
// (-DEMULATE) those of ../emu, so that the same text runs in `cargo test`.
//
// Rules for kernels
// 1. Nothing but this header: no inline PTX, no intrinsics, no __shared__ elsewhere. A new instruction is a new function
//    here, with its emulation, its kernel in conformance.cu and its exact test, before a kernel uses it.
// 2. Shared memory only through Sh<T> from smem<T>(offset): on the card a plain pointer, in the emulation a checked one.
// 3. Barriers and warp collectives (shfl_xor, shfl_from, ldmatrix4, mma) by whole warps, never in a divergent branch.
// 4. Blocks of a launch never exchange data; what one launch writes the next may read. So no fences, no volatile and no
//    atomics: every sum has one order, and two runs give the same bits.
// 5. Work lists (tiles, ranges, chunk tables) are made on the host, by functions that have tests of their own.
// 6. EXPORT(name) registers a kernel by name, STRUCTURE(T) names the type of an argument. Structures are passed by value.
// 7. Sizes of tiles and head widths are template constants; arrays in registers are indexed by constants (UNROLL).
#pragma once
#include <stdint.h>

#ifdef EMULATE
#include "../emu/host.h"
#else
#include <cuda_bf16.h>
#define GPU __device__ __forceinline__
#define KERNEL(threads, blocks) extern "C" __global__ void __launch_bounds__(threads, blocks)
#define EXPORT(name)
#define UNROLL _Pragma("unroll")
#define STRUCTURE(T)
using bf16 = __nv_bfloat16;

// Shared memory.
template <class T> using Sh = T *;
extern __shared__ __align__(128) unsigned char gpu_smem[];
template <class T> GPU T *smem(unsigned offset) { return reinterpret_cast<T *>(gpu_smem + offset); }
template <class T> GPU unsigned shared_address(T *p) { return static_cast<unsigned>(__cvta_generic_to_shared(p)); }

// Numbers.
GPU float to_f32(bf16 x) { return __bfloat162float(x); }
GPU bf16 to_bf16(float x) { return __float2bfloat16_rn(x); }
GPU uint32_t pack_bf16(float lo, float hi) {
  __nv_bfloat162 p = __floats2bfloat162_rn(lo, hi);
  return *reinterpret_cast<uint32_t *>(&p);
}
GPU uint32_t bits_of(float x) { return __float_as_uint(x); }
GPU float of_bits(uint32_t u) { return __uint_as_float(u); }
GPU float exp_(float x) { return expf(x); }
GPU double exp_(double x) { return exp(x); }
GPU float log_(float x) { return logf(x); }
GPU float sqrt_(float x) { return sqrtf(x); }
GPU double sqrt_(double x) { return sqrt(x); }
GPU float tanh_(float x) { return tanhf(x); }
GPU float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
GPU float log2_fast(float x) { return __log2f(x); }
GPU float rsqrt_fast(float x) { return rsqrtf(x); }
// 1 - 2 / (1 + e^2x): to a few 1e-7, in six instructions
GPU float tanh_fast(float x) { return 1.0f - __fdividef(2.0f, 1.0f + exp2_fast(x * 2.885390082f)); }

// Barriers and shuffles.
GPU void sync_block() { __syncthreads(); }
template <class T> GPU T shfl_xor(T v, int mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }
template <class T> GPU T shfl_from(T v, int lane) { return __shfl_sync(0xffffffffu, v, lane); }

// Global memory, 16 bytes at a time.
GPU uint4 load16(const void *p) { return *reinterpret_cast<const uint4 *>(p); }
GPU void store16(void *p, uint4 v) { *reinterpret_cast<uint4 *>(p) = v; }
// 16 bytes from global to shared memory; zeros where not `there`.
template <class T> GPU void copy16(T *dst, const T *src, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               ::"r"(shared_address(dst)), "l"(src), "r"(there ? 16 : 0)
               : "memory");
}
GPU void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int LEFT> GPU void copy_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory"); }

// Tensor cores. Four 8 x 8 matrices of bf16; lane l names row l % 8 of matrix l / 8.
GPU void ldmatrix4(uint32_t (&r)[4], bf16 *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
GPU void ldmatrix4_t(uint32_t (&r)[4], bf16 *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
// c (16 x 8) += a (16 x 16) b (16 x 8)
GPU void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#endif

GPU float to_f32(float x) { return x; }
// A number rounded to the type that it is stored in.
template <class T> struct As;
template <> struct As<float> { static GPU float of(float x) { return x; } };
template <> struct As<bf16> { static GPU bf16 of(float x) { return to_bf16(x); } };

GPU float max_(float a, float b) { return a > b ? a : b; }

template <class T> GPU T warp_sum(T v) {
  UNROLL for (int m = 16; m; m >>= 1) v += shfl_xor(v, m);
  return v;
}
