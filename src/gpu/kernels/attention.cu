// Attention on tensor cores in bf16, for heads of 64, 128 and 256: FlashAttention-2's order of work (Dao 2023) with
// mma.sync, 4 warps of 16 rows. Forward, then delta, dq, and dk with dv by a kernel of their own, so that no two blocks add
// to one place.
#include "attention.h"

namespace attention {
constexpr int BM = 64, WARPS = 4;

template <int E> GPU int at(int row, int chunk) {
  return row * E + (chunk ^ (row & 7)) * 8; // swizzled: eight rows of one chunk lie in eight groups of banks
}

// Rows of a matrix of heads to shared memory; `row_of` gives the row of each, or -1 for zeros.
template <int E, int N, class F> GPU void load_rows(Sh<bf16> dst, const bf16 *src, int stride, F row_of) {
  UNROLL for (int i = 0; i < N * E / 8 / (WARPS * 32); i++) {
    const int c = i * WARPS * 32 + threadIdx.x, r = c / (E / 8), chunk = c % (E / 8), row = row_of(r);
    copy16(dst + at<E>(r, chunk), src + (size_t)(row < 0 ? 0 : row) * stride + chunk * 8, row >= 0);
  }
}

// acc (16 x N) = rows a0.. of a (. x E) times b (N x E) transposed
template <int E, int N> GPU void product(float (&acc)[N / 8][4], Sh<bf16> a, int a0, Sh<bf16> b) {
  const int lane = threadIdx.x % 32;
  UNROLL for (int n = 0; n < N / 8; n++) UNROLL for (int i = 0; i < 4; i++) acc[n][i] = 0.0f;
  UNROLL for (int k = 0; k < E / 16; k++) {
    uint32_t fa[4];
    ldmatrix4(fa, a + at<E>(a0 + lane % 16, k * 2 + lane / 16));
    UNROLL for (int n = 0; n < N / 16; n++) {
      uint32_t fb[4];
      ldmatrix4(fb, b + at<E>(n * 16 + lane % 8 + lane / 16 * 8, k * 2 + lane / 8 % 2));
      mma(acc[n * 2], fa, fb[0], fb[1]);
      mma(acc[n * 2 + 1], fa, fb[2], fb[3]);
    }
  }
}

// acc (16 x C) += p (16 x N, as the sums of a product) times columns first.. of b (N x E)
template <int E, int N, int C> GPU void multiply(float (&acc)[C / 8][4], const float (&p)[N / 8][4], Sh<bf16> b, int first = 0) {
  const int lane = threadIdx.x % 32;
  UNROLL for (int k = 0; k < N / 16; k++) {
    const uint32_t fa[4] = {pack_bf16(p[2 * k][0], p[2 * k][1]), pack_bf16(p[2 * k][2], p[2 * k][3]),
                            pack_bf16(p[2 * k + 1][0], p[2 * k + 1][1]), pack_bf16(p[2 * k + 1][2], p[2 * k + 1][3])};
    UNROLL for (int n = 0; n < C / 16; n++) {
      uint32_t fb[4];
      ldmatrix4_t(fb, b + at<E>(k * 16 + lane % 16, first / 8 + n * 2 + lane / 16));
      mma(acc[n * 2], fa, fb[0], fb[1]);
      mma(acc[n * 2 + 1], fa, fb[2], fb[3]);
    }
  }
}

template <bool B> struct Is { static constexpr bool value = B; };

template <int E, int BN, bool CAP>
GPU void forward(const bf16 *q, const bf16 *k, const bf16 *v, bf16 *out, float *lse, const Tile *tiles, const Form &f) {
  const Tile t = tiles[blockIdx.x];
  const int head = blockIdx.y, kv = head / (f.heads / f.kv_heads), lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int qs = f.heads * E, ks = f.kv_heads * E;
  const Sh<bf16> sq = smem<bf16>(0), sk = smem<bf16>(BM * E * 2), sv = smem<bf16>((BM + BN) * E * 2);
  const int first_q = t.trunk + t.row0 - t.own0, end = first_q + t.rows;
  const int begin = f.window && first_q + 1 > f.window ? (first_q + 1 - f.window) / BN * BN : 0;
  auto key_row = [&](int c) { return c >= end ? -1 : c < t.trunk ? t.trunk0 + c : t.own0 + c - t.trunk; };
  load_rows<E, BM>(sq, q + head * E, qs, [&](int r) { return r < t.rows ? t.row0 + r : -1; });
  load_rows<E, BN>(sk, k + kv * E, ks, [&](int r) { return key_row(begin + r); });
  copy_commit();

  float o[E / 8][4], top[2] = {NONE, NONE}, sum[2] = {0.0f, 0.0f};
  UNROLL for (int n = 0; n < E / 8; n++) UNROLL for (int i = 0; i < 4; i++) o[n][i] = 0.0f;
  auto block = [&](int base, auto masked) {
    load_rows<E, BN>(sv, v + kv * E, ks, [&](int r) { return key_row(base + r); });
    copy_commit();
    copy_wait<1>();
    sync_block();
    float s[BN / 8][4];
    product<E, BN>(s, sq, warp * 16, sk);
    sync_block();
    if (base + BN < end) load_rows<E, BN>(sk, k + kv * E, ks, [&](int r) { return key_row(base + BN + r); });
    copy_commit();
    UNROLL for (int h = 0; h < 2; h++) {
      const int pos = first_q + warp * 16 + lane / 4 + h * 8;
      float best = top[h];
      UNROLL for (int n = 0; n < BN / 8; n++) UNROLL for (int i = 0; i < 2; i++) {
        float &x = s[n][h * 2 + i];
        if constexpr (CAP) x = f.cap * tanh_fast(x * f.scale); // else scaled within the exponential
        if constexpr (decltype(masked)::value) x = sees(f, pos, base + n * 8 + lane % 4 * 2 + i) ? x : NONE;
        best = x > best ? x : best;
      }
      UNROLL for (int m = 1; m < 4; m *= 2) { const float other = shfl_xor(best, m); best = other > best ? other : best; }
      const float scale = CAP ? 1.0f : f.scale, keep = exp2_fast((top[h] - best) * scale);
      const float down = best <= NONE ? 0.0f : best * scale; // a row may see nothing yet
      float part = 0.0f;
      UNROLL for (int n = 0; n < BN / 8; n++) UNROLL for (int i = 0; i < 2; i++) {
        float &x = s[n][h * 2 + i];
        x = exp2_fast(x * scale - down);
        part += x;
      }
      top[h] = best;
      sum[h] = sum[h] * keep + part;
      UNROLL for (int n = 0; n < E / 8; n++) o[n][h * 2] *= keep, o[n][h * 2 + 1] *= keep;
    }
    copy_wait<1>();
    sync_block();
    multiply<E, BN, E>(o, s, sv);
    sync_block();
  };
  for (int base = begin; base < end; base += BN) { // masks cost more than sums: only where something is hidden
    if (base + BN - 1 <= first_q && (f.window == 0 || base + f.window > end - 1)) block(base, Is<false>{});
    else block(base, Is<true>{});
  }
  copy_wait<0>();
  UNROLL for (int h = 0; h < 2; h++) {
    UNROLL for (int m = 1; m < 4; m *= 2) sum[h] += shfl_xor(sum[h], m);
    const int r = warp * 16 + lane / 4 + h * 8;
    if (r >= t.rows) continue;
    const size_t row = t.row0 + r;
    const float over = 1.0f / sum[h];
    UNROLL for (int n = 0; n < E / 8; n++)
      *reinterpret_cast<uint32_t *>(out + row * qs + head * E + n * 8 + lane % 4 * 2) =
          pack_bf16(o[n][h * 2] * over, o[n][h * 2 + 1] * over);
    if (lane % 4 == 0) lse[row * f.heads + head] = (CAP ? top[h] : top[h] * f.scale) + log2_fast(sum[h]);
  }
}

// delta (T, H) = the dot product of each row of out and its gradient, by head; a warp a row and head
template <int E> GPU void row_dots(const bf16 *out, const bf16 *grad, float *delta, int rows) {
  const int lane = threadIdx.x % 32, at = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
  float sum = 0.0f;
  if (at < rows)
    for (int i = lane; i < E; i += 32) sum += to_f32(out[(size_t)at * E + i]) * to_f32(grad[(size_t)at * E + i]);
  sum = warp_sum(sum);
  if (at < rows && lane == 0) delta[at] = sum;
}

// From a dot product of q and k: the probability; and from that and its gradient the dot product's gradient
// (but for the scale).
template <bool CAP> GPU float probability(const Form &f, float dot, float lse, float &slope) {
  slope = 1.0f;
  if constexpr (!CAP) return exp2_fast(dot * f.scale - lse);
  const float th = tanh_fast(dot * f.scale);
  slope = 1.0f - th * th;
  return exp2_fast(f.cap * th - lse);
}

template <int E, int BN, bool CAP>
GPU void backward_q(const bf16 *q, const bf16 *k, const bf16 *v, const bf16 *grad, const float *lse, const float *delta,
                    bf16 *dq, const Tile *tiles, const Form &f, float back) {
  const Tile t = tiles[blockIdx.x];
  const int head = blockIdx.y, kv = head / (f.heads / f.kv_heads), lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int qs = f.heads * E, ks = f.kv_heads * E;
  const Sh<bf16> sq = smem<bf16>(0), sg = smem<bf16>(BM * E * 2), sk = smem<bf16>(2 * BM * E * 2),
                 sv = smem<bf16>((2 * BM + BN) * E * 2);
  const int first_q = t.trunk + t.row0 - t.own0, end = first_q + t.rows;
  const int begin = f.window && first_q + 1 > f.window ? (first_q + 1 - f.window) / BN * BN : 0;
  auto key_row = [&](int c) { return c >= end ? -1 : c < t.trunk ? t.trunk0 + c : t.own0 + c - t.trunk; };
  auto query_row = [&](int r) { return r < t.rows ? t.row0 + r : -1; };
  load_rows<E, BM>(sq, q + head * E, qs, query_row);
  load_rows<E, BM>(sg, grad + head * E, qs, query_row);
  float l[2], dl[2], acc[E / 8][4];
  UNROLL for (int h = 0; h < 2; h++) {
    const int row = query_row(warp * 16 + lane / 4 + h * 8);
    l[h] = row < 0 ? 0.0f : lse[(size_t)row * f.heads + head];
    dl[h] = row < 0 ? 0.0f : delta[(size_t)row * f.heads + head];
  }
  UNROLL for (int n = 0; n < E / 8; n++) UNROLL for (int i = 0; i < 4; i++) acc[n][i] = 0.0f;
  auto block = [&](int base, auto masked) {
    load_rows<E, BN>(sk, k + kv * E, ks, [&](int r) { return key_row(base + r); });
    load_rows<E, BN>(sv, v + kv * E, ks, [&](int r) { return key_row(base + r); });
    copy_commit();
    copy_wait<0>();
    sync_block();
    float s[BN / 8][4], d[BN / 8][4];
    product<E, BN>(s, sq, warp * 16, sk);
    product<E, BN>(d, sg, warp * 16, sv);
    UNROLL for (int n = 0; n < BN / 8; n++) UNROLL for (int i = 0; i < 4; i++) {
      const int r = warp * 16 + lane / 4 + i / 2 * 8;
      float slope;
      const float p = probability<CAP>(f, s[n][i], l[i / 2], slope);
      const float ds = p * (d[n][i] - dl[i / 2]) * slope;
      if constexpr (decltype(masked)::value)
        s[n][i] = r < t.rows && sees(f, first_q + r, base + n * 8 + lane % 4 * 2 + i % 2) ? ds : 0.0f;
      else
        s[n][i] = ds;
    }
    multiply<E, BN, E>(acc, s, sk);
    sync_block();
  };
  for (int base = begin; base < end; base += BN) {
    if (t.rows == BM && base + BN - 1 <= first_q && (f.window == 0 || base + f.window > end - 1)) block(base, Is<false>{});
    else block(base, Is<true>{});
  }
  UNROLL for (int h = 0; h < 2; h++) {
    const int r = warp * 16 + lane / 4 + h * 8;
    if (r >= t.rows) continue;
    UNROLL for (int n = 0; n < E / 8; n++)
      *reinterpret_cast<uint32_t *>(dq + (size_t)(t.row0 + r) * qs + head * E + n * 8 + lane % 4 * 2) =
          pack_bf16(acc[n][h * 2] * back, acc[n][h * 2 + 1] * back);
  }
}

// A tile of 64 keys of one segment against all queries that see it, of all heads of the group; columns
// blockIdx.z * C.. of the gradients, so that wide heads fit the registers.
template <int E, int BQ, int C, bool CAP>
GPU void backward_kv(const bf16 *q, const bf16 *k, const bf16 *v, const bf16 *grad, const float *lse, const float *delta,
                     bf16 *dk, bf16 *dv, const Tile *tiles, const Range *ranges, const int *range_at, const Form &f, float back) {
  const Tile t = tiles[blockIdx.x];
  const int kv = blockIdx.y, group = f.heads / f.kv_heads, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int qs = f.heads * E, ks = f.kv_heads * E;
  const Sh<bf16> sk = smem<bf16>(0), sv = smem<bf16>(BM * E * 2), sq = smem<bf16>(2 * BM * E * 2),
                 sg = smem<bf16>((2 * BM + BQ) * E * 2);
  const Sh<float> sl = smem<float>((2 * BM + 2 * BQ) * E * 2), sd = smem<float>((2 * BM + 2 * BQ) * E * 2 + BQ * 4);
  const int first_c = t.trunk + t.row0 - t.own0; // position of the tile's first key
  auto key_row = [&](int r) { return r < t.rows ? t.row0 + r : -1; };
  load_rows<E, BM>(sk, k + kv * E, ks, key_row);
  load_rows<E, BM>(sv, v + kv * E, ks, key_row);
  float gk[C / 8][4], gv[C / 8][4];
  const int first_col = blockIdx.z * C;
  UNROLL for (int n = 0; n < C / 8; n++) UNROLL for (int i = 0; i < 4; i++) gk[n][i] = gv[n][i] = 0.0f;
  for (int i = range_at[blockIdx.x]; i < range_at[blockIdx.x + 1]; i++) {
    const Range range = ranges[i];
    for (int head = kv * group; head < (kv + 1) * group; head++)
      for (int base = range.first; base < range.end; base += BQ) {
        const int pos0 = range.at + base - range.first;
        if (f.window && first_c + t.rows - 1 + f.window <= pos0) break; // all further queries are too far behind
        auto block = [&](auto masked) {
        auto query_row = [&](int r) { return base + r < range.end ? base + r : -1; };
        load_rows<E, BQ>(sq, q + head * E, qs, query_row);
        load_rows<E, BQ>(sg, grad + head * E, qs, query_row);
        if (threadIdx.x < BQ) {
          const int row = query_row(threadIdx.x);
          sl[threadIdx.x] = row < 0 ? 0.0f : lse[(size_t)row * f.heads + head];
          sd[threadIdx.x] = row < 0 ? 0.0f : delta[(size_t)row * f.heads + head];
        }
        copy_commit();
        copy_wait<0>();
        sync_block();
        float s[BQ / 8][4], d[BQ / 8][4];
        product<E, BQ>(s, sk, warp * 16, sq); // keys x queries
        product<E, BQ>(d, sv, warp * 16, sg);
        UNROLL for (int n = 0; n < BQ / 8; n++) UNROLL for (int i = 0; i < 4; i++) {
          const int r = warp * 16 + lane / 4 + i / 2 * 8, col = n * 8 + lane % 4 * 2 + i % 2;
          float slope;
          float p = probability<CAP>(f, s[n][i], sl[col], slope);
          if constexpr (decltype(masked)::value)
            p = r < t.rows && base + col < range.end && sees(f, pos0 + col, first_c + r) ? p : 0.0f;
          d[n][i] = p * (d[n][i] - sd[col]) * slope;
          s[n][i] = p;
        }
        multiply<E, BQ, C>(gv, s, sg, first_col);
        multiply<E, BQ, C>(gk, d, sq, first_col);
        sync_block();
        };
        const bool whole = t.rows == BM && base + BQ <= range.end && first_c + BM - 1 <= pos0;
        if (whole && (f.window == 0 || first_c + f.window > pos0 + BQ - 1)) block(Is<false>{});
        else block(Is<true>{});
      }
  }
  copy_wait<0>();
  UNROLL for (int h = 0; h < 2; h++) {
    const int r = warp * 16 + lane / 4 + h * 8;
    if (r >= t.rows) continue;
    UNROLL for (int n = 0; n < C / 8; n++) {
      const size_t o = (size_t)(t.row0 + r) * ks + kv * E + first_col + n * 8 + lane % 4 * 2;
      *reinterpret_cast<uint32_t *>(dk + o) = pack_bf16(gk[n][h * 2] * back, gk[n][h * 2 + 1] * back);
      *reinterpret_cast<uint32_t *>(dv + o) = pack_bf16(gv[n][h * 2], gv[n][h * 2 + 1]);
    }
  }
}
} // namespace attention

#define FORWARD(E, BN, BLOCKS, CAP, NAME)                                                                                    \
  KERNEL(128, BLOCKS) attention_forward_##NAME(const bf16 *q, const bf16 *k, const bf16 *v, bf16 *out, float *lse,           \
                                               const Tile *tiles, Form f) {                                                  \
    attention::forward<E, BN, CAP>(q, k, v, out, lse, tiles, f);                                                             \
  }                                                                                                                          \
  EXPORT(attention_forward_##NAME)                                                                                           \
  KERNEL(128, 1) attention_backward_q_##NAME(const bf16 *q, const bf16 *k, const bf16 *v, const bf16 *grad, const float *lse, \
                                             const float *delta, bf16 *dq, const Tile *tiles, Form f, float back) {          \
    attention::backward_q<E, BN, CAP>(q, k, v, grad, lse, delta, dq, tiles, f, back);                                        \
  }                                                                                                                          \
  EXPORT(attention_backward_q_##NAME)
#define KEYS(E, BQ, C, CAP, NAME)                                                                                            \
  KERNEL(128, 1) attention_backward_kv_##NAME(const bf16 *q, const bf16 *k, const bf16 *v, const bf16 *grad,                 \
                                              const float *lse, const float *delta, bf16 *dk, bf16 *dv, const Tile *tiles,   \
                                              const Range *ranges, const int *range_at, Form f, float back) {                \
    attention::backward_kv<E, BQ, C, CAP>(q, k, v, grad, lse, delta, dk, dv, tiles, ranges, range_at, f, back);              \
  }                                                                                                                          \
  EXPORT(attention_backward_kv_##NAME)
// Width of heads, keys a block, blocks a multiprocessor (forward, dq); queries a block, columns a block (dk, dv).
#define HEADS(E, BN, BLOCKS, BQ, C)                                                                                          \
  FORWARD(E, BN, BLOCKS, false, E)                                                                                           \
  FORWARD(E, BN, BLOCKS, true, E##_cap)                                                                                      \
  KEYS(E, BQ, C, false, E)                                                                                                   \
  KEYS(E, BQ, C, true, E##_cap)                                                                                              \
  KERNEL(128, 1) attention_dots_##E(const bf16 *out, const bf16 *grad, float *delta, int rows) {                             \
    attention::row_dots<E>(out, grad, delta, rows);                                                                          \
  }                                                                                                                          \
  EXPORT(attention_dots_##E)

HEADS(64, 64, 2, 64, 64)
HEADS(128, 64, 1, 32, 128)
HEADS(256, 32, 1, 32, 128)
