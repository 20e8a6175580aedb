// Sums and maxima over a block, in one order.
#pragma once
#include "gpu.h"

// The sum over the block of each thread's value, to all; red: 32 values.
template <class T> GPU T block_sum(T v, Sh<T> red) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  v = warp_sum(v);
  if (lane == 0) red[warp] = v;
  sync_block();
  v = lane < warps ? T(red[lane]) : T(0);
  v = warp_sum(v);
  sync_block(); // red is written again by the next sum
  return v;
}
