// Attention of one new token a sequence over cached keys and values, by the definition, for heads of any width up to 256,
// f32 or bf16; and how keys and values come into the cache.
//
// The cache is pages of PAGE positions: keys and values (pages, K, PAGE, E) each, so that what a head has in a page lies
// together. Slot page * PAGE + i is place i of a page. Position p of sequence b is in page table[b * columns + p / PAGE];
// the new token stands at the last of its lengths[b] positions. Length 0: an idle row of the batch.
#include "attention.h"

namespace decode_attention {
constexpr int PAGE = 64, WARPS = 4, PER_LANE = 8; // columns of a lane: E <= 256

// Where a head's numbers of a slot begin.
GPU size_t place(int slot, int heads, int head, int width) {
  return (((size_t)(slot / PAGE) * heads + head) * PAGE + slot % PAGE) * width;
}

// What some positions add up to: the largest exponent, the sum of exponentials, and a lane's columns of their values' sum.
struct Part {
  float top = NONE, sum = 0.0f, acc[PER_LANE] = {};
};

// A lane a position: 32 of a page, of which the query sees first..pos; `keys` and `values` begin at the page's first.
template <class T>
GPU void attend(Part &p, const T *q, const T *keys, const T *values, int base, int first, int pos, const Form &f, int width) {
  const int lane = threadIdx.x % 32, c = base + lane, in_page = base % PAGE;
  float x = NONE;
  if (c >= first && c <= pos) {
    float dot = 0.0f;
    for (int e = 0; e < width; e++) dot += to_f32(q[e]) * to_f32(keys[(size_t)(in_page + lane) * width + e]);
    x = f.cap > 0.0f ? f.cap * tanh_(dot * f.scale) : dot * f.scale;
  }
  float best = max_(p.top, x);
  UNROLL for (int m = 16; m; m >>= 1) best = max_(best, shfl_xor(best, m));
  const float keep = exp2_fast(p.top - best), weight = c >= first && c <= pos ? exp2_fast(x - best) : 0.0f;
  p.top = best;
  p.sum = p.sum * keep + warp_sum(weight);
  UNROLL for (int i = 0; i < PER_LANE; i++) p.acc[i] *= keep;
  for (int j = base < first ? first - base : 0; j < 32 && base + j <= pos; j++) { // what is not seen may be no number
    const float wj = shfl_from(weight, j);
    const T *value = values + (size_t)(in_page + j) * width;
    UNROLL for (int i = 0; i < PER_LANE; i++) if (lane + i * 32 < width) p.acc[i] += wj * to_f32(value[lane + i * 32]);
  }
}

// A block a sequence and head; its warps take a page in turn, and their parts are put together in their order.
template <class T>
GPU void forward(const T *q, const T *keys, const T *values, const int *table, const int *lengths, T *out, const Form &f,
                 int width, int columns) {
  const int b = blockIdx.x, head = blockIdx.y, kv = head / (f.heads / f.kv_heads), lane = threadIdx.x % 32,
            warp = threadIdx.x / 32, pos = lengths[b] - 1, first = f.window && pos >= f.window ? pos + 1 - f.window : 0;
  const size_t at = ((size_t)b * f.heads + head) * width;
  Part p;
  for (int page = first / PAGE + warp; page * PAGE <= pos; page += WARPS) {
    const size_t run = place(table[(size_t)b * columns + page] * PAGE, f.kv_heads, kv, width);
    UNROLL for (int half = 0; half < PAGE; half += 32) {
      const int base = page * PAGE + half;
      if (base <= pos && base + 32 > first) attend(p, q + at, keys + run, values + run, base, first, pos, f, width);
    }
  }
  const Sh<float> top = smem<float>(0), sum = smem<float>(WARPS * 4), acc = smem<float>(WARPS * 8); // acc (WARPS, E)
  if (lane == 0) {
    top[warp] = p.top;
    sum[warp] = p.sum;
  }
  UNROLL for (int i = 0; i < PER_LANE; i++) if (lane + i * 32 < width) acc[warp * width + lane + i * 32] = p.acc[i];
  sync_block();
  float best = NONE;
  UNROLL for (int w = 0; w < WARPS; w++) best = max_(best, top[w]);
  for (int i = threadIdx.x; i < width; i += blockDim.x) {
    float total = 0.0f, mixed = 0.0f;
    UNROLL for (int w = 0; w < WARPS; w++) {
      const float keep = exp2_fast(top[w] - best);
      total += sum[w] * keep;
      mixed += acc[w * width + i] * keep;
    }
    out[at + i] = As<T>::of(pos < 0 ? 0.0f : mixed / total);
  }
}

// Puts rows of k and v (rows, K * E) into slots; a thread a number. Rows whose slot is negative go nowhere.
template <class T, class F> GPU void store(const T *k, const T *v, T *keys, T *values, int rows, int heads, int width, F slot_of) {
  const int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= (int64_t)rows * heads * width) return;
  const int slot = slot_of(int(at / width / heads));
  if (slot < 0) return;
  const size_t to = place(slot, heads, at / width % heads, width) + at % width;
  keys[to] = k[at];
  values[to] = v[at];
}

// The slot of a sequence's last position.
GPU int last_slot(const int *table, const int *lengths, int b, int columns) {
  const int pos = lengths[b] - 1;
  return pos < 0 ? -1 : table[(size_t)b * columns + pos / PAGE] * PAGE + pos % PAGE;
}
} // namespace decode_attention

#define DECODE_ATTENTION(T, NAME)                                                                                            \
  KERNEL(128, 1) decode_attention_##NAME(const T *q, const T *keys, const T *values, const int *table, const int *lengths,   \
                                         T *out, Form f, int width, int columns) {                                           \
    decode_attention::forward<T>(q, keys, values, table, lengths, out, f, width, columns);                                   \
  }                                                                                                                          \
  EXPORT(decode_attention_##NAME)                                                                                            \
  KERNEL(256, 1) cache_append_##NAME(const T *k, const T *v, const int *table, const int *lengths, T *keys, T *values,       \
                                     int rows, int heads, int width, int columns) {                                          \
    decode_attention::store<T>(k, v, keys, values, rows, heads, width,                                                       \
                               [&](int b) { return decode_attention::last_slot(table, lengths, b, columns); });              \
  }                                                                                                                          \
  EXPORT(cache_append_##NAME)                                                                                                \
  KERNEL(256, 1) cache_store_##NAME(const T *k, const T *v, const int *slots, T *keys, T *values, int rows, int heads,       \
                                    int width) {                                                                             \
    decode_attention::store<T>(k, v, keys, values, rows, heads, width, [&](int row) { return slots[row]; });                 \
  }                                                                                                                          \
  EXPORT(cache_store_##NAME)
DECODE_ATTENTION(float, f32)
DECODE_ATTENTION(bf16, bf16)
