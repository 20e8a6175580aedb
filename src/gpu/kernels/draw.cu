// Tokens drawn from logits: temperature, nucleus, inverse distribution function. All of it is in f64, in the order that
// the host draws in, so that a token is the host's unless a sum of theirs differs in its last digits just there.
//
// A block a row. The nucleus is found without sorting: logits as whole numbers of the same order, four bits of them at a time
// from the highest, by the mass of each of the 16 values of the four bits.
#include "reduce.h"

namespace draw {
constexpr int THREADS = 512, BINS = 16;
struct By { double temperature, top_p; };
struct Row {
  const float *logits;
  int count;
  double top, temperature;
};
// A logit, as its key; the mass of all that are larger, and of all that were looked at.
struct Found {
  uint32_t key;
  double above, mass;
};

// Whole numbers that are in the order of the logits; both zeros are one number.
GPU uint32_t key_of(float x) {
  const uint32_t bits = bits_of(x + 0.0f);
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}
GPU float of_key(uint32_t key) { return of_bits(key >> 31 ? key & 0x7fffffffu : ~key); }
GPU double weight(const Row &r, float x) { return exp_((double(x) - r.top) / r.temperature); }

// The whole part, from 0 to `most`.
GPU int whole(double x, int most) { return x >= double(most) ? most : x > 0.0 ? int(x) : 0; }

// 32 values, behind a column of bins for each thread.
GPU Sh<double> reduced() { return smem<double>(THREADS * BINS * 8); }

// The largest logit, to all; NaN if any is.
GPU float largest(const float *logits, int count) {
  const Sh<double> red = reduced();
  float top = logits[0];
  double broken = 0.0;
  for (int i = threadIdx.x; i < count; i += THREADS) {
    if (logits[i] != logits[i]) broken = 1.0;
    top = max_(top, logits[i]);
  }
  broken = block_sum(broken, red);
  UNROLL for (int m = 16; m; m >>= 1) top = max_(top, shfl_xor(top, m));
  if (threadIdx.x % 32 == 0) red[threadIdx.x / 32] = double(top);
  sync_block();
  for (int w = 0; w < THREADS / 32; w++) top = max_(top, float(double(red[w])));
  sync_block(); // red is written again
  return broken > 0.0 ? of_bits(0x7fc00000u) : top;
}

// The logit at which the mass of all from the largest down comes to `share` of `mass`, or of all there is if that is negative;
// `beyond`: comes to more. Logits below `floor`, which is below that one, are passed over: exponentials take the time. All threads find the same.
GPU Found search(const Row &r, double share, double mass, bool beyond, uint32_t floor) {
  const Sh<double> bins = smem<double>(0), red = reduced();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  Found f{0u, 0.0, mass};
  for (int shift = 28; shift >= 0; shift -= 4) {
    for (int b = 0; b < BINS; b++) bins[b * THREADS + threadIdx.x] = 0.0;
    for (int i = threadIdx.x; i < r.count; i += THREADS) {
      const uint32_t key = key_of(r.logits[i]);
      if (key < floor || (shift < 28 && key >> (shift + 4) != f.key)) continue;
      const int at = int(key >> shift & 15u) * THREADS + int(threadIdx.x);
      bins[at] = bins[at] + weight(r, r.logits[i]);
    }
    sync_block();
    for (int b = warp; b < BINS; b += THREADS / 32) {
      double sum = 0.0;
      for (int t = lane; t < THREADS; t += 32) sum += bins[b * THREADS + t];
      sum = warp_sum(sum);
      if (lane == 0) red[b] = sum;
    }
    sync_block();
    if (f.mass < 0.0) {
      f.mass = 0.0;
      for (int b = BINS - 1; b >= 0; b--) f.mass += red[b];
    }
    // Where rounding keeps the sum below its goal, the last that has any mass.
    const double goal = share * f.mass;
    double above = f.above, before = f.above;
    int found = 0;
    for (int b = BINS - 1; b >= 0; b--) {
      const double own = red[b];
      if (own <= 0.0) continue;
      before = above;
      found = b;
      above += own;
      if (beyond ? above > goal : above >= goal) break;
    }
    f = Found{f.key << 4 | uint32_t(found), before, f.mass};
  }
  return f;
}

// How many logits have a key; the place of the one of number `wanted`, from 0, or of the last if there are fewer, to all. A
// thread looks through neighbours, so that places rise with threads.
GPU int place(const Row &r, uint32_t key, int wanted, int &count) {
  const Sh<int> counts = smem<int>(0), chosen = smem<int>(THREADS * 4);
  const int each = (r.count + THREADS - 1) / THREADS, first = int(threadIdx.x) * each;
  const int end = first + each < r.count ? first + each : r.count;
  int own = 0;
  for (int i = first; i < end; i++) own += key_of(r.logits[i]) == key;
  counts[threadIdx.x] = own;
  sync_block();
  int before = 0;
  count = 0;
  for (int t = 0; t < THREADS; t++) {
    if (t == int(threadIdx.x)) before = count;
    count += counts[t];
  }
  const int number = wanted < count ? wanted : count - 1;
  if (before <= number && number < before + own) {
    int left = number - before, i = first;
    for (; key_of(r.logits[i]) != key || left > 0; i++) left -= key_of(r.logits[i]) == key;
    chosen[0] = i;
  }
  sync_block();
  const int at = chosen[0];
  sync_block(); // both are written again
  return at;
}

// By falling logits, rising places where they are the same: the nucleus (Holtzman et al. 2020) is the smallest set of the
// first that comes to `top_p` of all mass.
GPU int from_nucleus(const Row &r, double top_p, double uniform) {
  const Found edge = search(r, top_p, -1.0, false, 0u);
  int ties;
  place(r, edge.key, 0, ties);
  const double own = weight(r, of_key(edge.key)), missing = (top_p * edge.mass - edge.above) / own;
  int kept = whole(missing, ties);
  if (kept < ties && (kept == 0 || double(kept) < missing)) kept++;
  const double mass = edge.above + double(kept) * own;
  const Found drawn = search(r, uniform, mass, true, edge.key);
  const int last = drawn.key == edge.key ? kept - 1 : r.count;
  return place(r, drawn.key, whole((uniform * mass - drawn.above) / weight(r, of_key(drawn.key)), last), ties);
}

// By rising places.
GPU int from_all(const Row &r, double uniform) {
  const Sh<double> sums = smem<double>(0);
  const Sh<int> chosen = smem<int>(THREADS * 8);
  const int each = (r.count + THREADS - 1) / THREADS, first = int(threadIdx.x) * each;
  const int end = first + each < r.count ? first + each : r.count;
  double own = 0.0;
  for (int i = first; i < end; i++) own += weight(r, r.logits[i]);
  sums[threadIdx.x] = own;
  sync_block();
  double mass = 0.0;
  for (int t = 0; t < THREADS; t++) mass += sums[t];
  const double goal = uniform * mass;
  double before = 0.0, sum = 0.0;
  int owner = 0; // the last that has any mass, if rounding leaves the goal at the very end
  for (int t = 0; t < THREADS; t++) {
    const double more = sums[t];
    if (more <= 0.0) continue;
    before = sum;
    owner = t;
    sum += more;
    if (goal < sum) break;
  }
  if (owner == int(threadIdx.x)) {
    int at = first;
    for (int i = first; i < end; i++) {
      const double more = weight(r, r.logits[i]);
      if (more <= 0.0) continue;
      at = i;
      before += more;
      if (goal < before) break;
    }
    chosen[0] = at;
  }
  sync_block();
  return chosen[0];
}
} // namespace draw
STRUCTURE(draw::By)

// tokens[row], drawn from logits (rows, vocab) by the row's number in [0, 1): the likeliest, the first of several, with
// temperature 0; -1 where a logit is NaN or the largest is not finite.
KERNEL(512, 1) draw_tokens(const float *logits, const double *uniforms, int *tokens, int vocab, draw::By by) {
  const int row = blockIdx.x;
  const float *own = logits + (size_t)row * vocab;
  const float top = draw::largest(own, vocab);
  int token = -1;
  if (top - top == 0.0f) {
    const draw::Row r{own, vocab, double(top), by.temperature};
    int ties;
    if (by.temperature <= 0.0)
      token = draw::place(r, draw::key_of(top), 0, ties);
    else if (by.top_p >= 1.0)
      token = draw::from_all(r, uniforms[row]);
    else
      token = draw::from_nucleus(r, by.top_p, uniforms[row]);
  }
  if (threadIdx.x == 0) tokens[row] = token;
}
EXPORT(draw_tokens)
