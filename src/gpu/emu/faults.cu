// Kernels with one fault each, which the emulation must find. They are no kernels of the card.
#include "../kernels/gpu.h"

// Four warps write their own and read another's, with no barrier between.
KERNEL(128, 1) fault_no_barrier(float *y) {
  const Sh<float> s = smem<float>(0);
  s[threadIdx.x] = 0.0f;
  sync_block();
  s[threadIdx.x] = float(threadIdx.x);
  y[threadIdx.x] = s[threadIdx.x ^ 32];
}
EXPORT(fault_no_barrier)

// Lanes of one warp do the same.
KERNEL(32, 1) fault_no_barrier_in_a_warp(float *y) {
  const Sh<float> s = smem<float>(0);
  s[threadIdx.x] = 0.0f;
  sync_block();
  s[threadIdx.x] = float(threadIdx.x);
  y[threadIdx.x] = s[threadIdx.x ^ 1];
}
EXPORT(fault_no_barrier_in_a_warp)

// The barrier before a second round of writing is missing.
KERNEL(128, 1) fault_written_too_early(float *y) {
  const Sh<float> s = smem<float>(0);
  for (int round = 0; round < 2; round++) {
    s[threadIdx.x] = float(threadIdx.x);
    sync_block();
    y[threadIdx.x] = s[threadIdx.x ^ 32];
  }
}
EXPORT(fault_written_too_early)

// All lanes of a warp read what one of them then writes: whichever runs last finds all others' reads behind it.
template <int LAST> GPU void read_and_replace(float *y) {
  const Sh<float> s = smem<float>(0);
  if (threadIdx.x == 0) s[0] = 0.0f;
  sync_block();
  const float v = s[0];
  if (threadIdx.x == LAST) s[0] = v;
  y[threadIdx.x] = v;
}
KERNEL(32, 1) fault_replaced_by_the_first(float *y) { read_and_replace<0>(y); }
EXPORT(fault_replaced_by_the_first)
KERNEL(32, 1) fault_replaced_by_the_last(float *y) { read_and_replace<31>(y); }
EXPORT(fault_replaced_by_the_last)

KERNEL(32, 1) fault_two_writers(float *y) {
  const Sh<float> s = smem<float>(0);
  s[threadIdx.x / 2] = float(threadIdx.x);
  sync_block();
  y[threadIdx.x] = s[threadIdx.x / 2];
}
EXPORT(fault_two_writers)

KERNEL(32, 1) fault_unwritten(float *y) { y[threadIdx.x] = smem<float>(0)[threadIdx.x]; }
EXPORT(fault_unwritten)

KERNEL(128, 1) fault_outside(float *y) {
  const Sh<float> s = smem<float>(0);
  s[threadIdx.x + 1] = 1.0f;
  y[threadIdx.x] = 0.0f;
}
EXPORT(fault_outside)

KERNEL(32, 1) fault_unaligned(float *y) {
  smem<float>(2)[threadIdx.x] = 1.0f;
  y[threadIdx.x] = 0.0f;
}
EXPORT(fault_unaligned)

KERNEL(128, 1) fault_barrier_in_branches(float *y) {
  if (threadIdx.x < 32)
    sync_block();
  else
    sync_block();
  y[threadIdx.x] = 0.0f;
}
EXPORT(fault_barrier_in_branches)

// Half of a block waits for the other half, which waits for itself.
KERNEL(128, 1) fault_barrier_of_a_part(float *y) {
  if (threadIdx.x % 2 == 0) sync_block();
  y[threadIdx.x] = warp_sum(1.0f);
}
EXPORT(fault_barrier_of_a_part)

KERNEL(32, 1) fault_lane_left_out(float *y) {
  if (threadIdx.x < 31) y[threadIdx.x] = warp_sum(1.0f);
}
EXPORT(fault_lane_left_out)

KERNEL(32, 1) fault_mixed_collectives(float *y) {
  float c[4] = {};
  const uint32_t a[4] = {};
  if (threadIdx.x < 16) c[0] = warp_sum(1.0f);
  else mma(c, a, 0, 0);
  y[threadIdx.x] = c[0];
}
EXPORT(fault_mixed_collectives)

KERNEL(48, 1) fault_part_of_a_warp(float *y) { y[threadIdx.x] = warp_sum(1.0f); }
EXPORT(fault_part_of_a_warp)

KERNEL(32, 1) fault_copy_not_awaited(float *y) {
  const Sh<float> s = smem<float>(0);
  copy16(s + threadIdx.x * 4, y, true);
  copy_commit();
  y[threadIdx.x] = s[threadIdx.x * 4];
}
EXPORT(fault_copy_not_awaited)

// Waits for its own copies, and reads another's.
KERNEL(32, 1) fault_copy_without_a_barrier(float *y) {
  const Sh<float> s = smem<float>(0);
  copy16(s + threadIdx.x * 4, y, true);
  copy_commit();
  copy_wait<0>();
  y[threadIdx.x] = s[(threadIdx.x ^ 1) * 4];
}
EXPORT(fault_copy_without_a_barrier)

KERNEL(32, 1) fault_copy_left_in_flight(float *y) {
  copy16(smem<float>(0) + threadIdx.x * 4, y, true);
  copy_commit();
}
EXPORT(fault_copy_left_in_flight)

KERNEL(32, 1) fault_unaligned_store(float *y) { store16(y + 1, uint4{0, 0, 0, 0}); }
EXPORT(fault_unaligned_store)

KERNEL(128, 1) fault_past_the_end(float *y) { y[threadIdx.x + 1] = 0.0f; }
EXPORT(fault_past_the_end)

KERNEL(128, 1) fault_before_the_beginning(float *y) { y[int(threadIdx.x) - 1] = 0.0f; }
EXPORT(fault_before_the_beginning)

// Nobody notices what is read in global memory; but beside an array lies NaN.
KERNEL(32, 1) fault_reads_behind(float *y) { y[threadIdx.x] = y[128 + threadIdx.x]; }
EXPORT(fault_reads_behind)

KERNEL(32, 1) fault_reads_before(float *y) { y[threadIdx.x] = y[int(threadIdx.x) - 32]; }
EXPORT(fault_reads_before)

KERNEL(32, 1) fault_none(float *y) { y[threadIdx.x] = 1.0f; }
EXPORT(fault_none)
