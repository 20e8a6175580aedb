// Shared memory: who touches what when, and copies that arrive as late as they may.
#include "emu.h"

namespace emu {
constexpr uint16_t NOBODY = 0xffff;

// Whether an earlier access of thread `other`, in the phases b and w, is unordered with one of `t` now.
static bool apart(const Thread &t, uint16_t other, uint32_t b, uint32_t w) {
  if (other == NOBODY || other == t.flat || b != t.barriers) return false;
  return other / WARP != t.warp || w == block->warps[t.warp].epoch;
}

static void note_write(const Thread &t, Shadow &s, uint32_t at) {
  if (apart(t, s.writer, s.write_b, s.write_w)) fail("race: threads %u and %u write shared byte %u", s.writer, t.flat, at);
  if (apart(t, s.reader, s.read_b, s.read_w))
    fail("race: thread %u writes shared byte %u, which thread %u reads in the same phase", t.flat, at, s.reader);
  // The last reader may be this thread; then one of the others counts.
  if (s.read_b == t.barriers && (s.many || (s.lanes && s.read_w == block->warps[t.warp].epoch)))
    fail("race: thread %u writes shared byte %u, which other threads read in the same phase", t.flat, at);
  s.writer = t.flat;
  s.write_b = t.barriers;
  s.write_w = block->warps[t.warp].epoch;
  s.written = true;
}

static void note_read(const Thread &t, Shadow &s, uint32_t at) {
  if (!s.written) fail("thread %u reads shared byte %u, which nobody wrote", t.flat, at);
  if (apart(t, s.writer, s.write_b, s.write_w))
    fail("race: thread %u reads shared byte %u, which thread %u writes in the same phase", t.flat, at, s.writer);
  if (s.read_b != t.barriers || s.reader == NOBODY) s.many = s.lanes = false;
  else if (s.reader / WARP != t.warp) s.many = true;
  else if (s.read_w != block->warps[t.warp].epoch) s.lanes = false;
  else if (s.reader != t.flat) s.lanes = true;
  s.reader = t.flat;
  s.read_b = t.barriers;
  s.read_w = block->warps[t.warp].epoch;
}

void touch(uint32_t at, uint32_t bytes, bool write) {
  if (size_t(at) + bytes > block->shared_bytes) fail("shared memory: %u bytes at %u of %zu", bytes, at, block->shared_bytes);
  if (at % (bytes > 16 ? 16 : bytes)) fail("shared memory: unaligned access to %u bytes at %u", bytes, at);
  if (!block->options.checking) return;
  const Thread &t = *thread;
  for (uint32_t i = at / 2; i < (at + bytes + 1) / 2; i++) {
    Shadow &s = block->shadow[i];
    if (s.coming) fail("thread %u touches shared byte %u, which a copy in flight may write at any time", t.flat, i * 2);
    if (write) note_write(t, s, i * 2);
    else note_read(t, s, i * 2);
  }
}

static void set_coming(const Copy &c, bool coming) {
  if (!block->options.checking) return;
  for (uint32_t i = c.dst / 2; i < (c.dst + c.bytes) / 2; i++) block->shadow[i].coming = coming;
}

// From now until the wait the bytes may change at any time: they are poison, and nobody may touch them.
void issue(uint32_t dst, uint32_t bytes, const void *src, uint32_t fill) {
  touch(dst, bytes, true);
  memset(block->shared + dst, 0xff, bytes);
  thread->open.push_back({dst, bytes, src, fill});
  set_coming(thread->open.back(), true);
}

void commit() {
  thread->groups.push_back(std::move(thread->open));
  thread->open.clear();
}

void wait_groups(unsigned left) {
  auto &groups = thread->groups;
  while (groups.size() > left) {
    for (const Copy &c : groups.front()) {
      set_coming(c, false);
      touch(c.dst, c.bytes, true);
      memset(block->shared + c.dst, 0, c.bytes);
      if (c.fill) memcpy(block->shared + c.dst, c.src, c.fill);
    }
    groups.erase(groups.begin());
  }
}

// Eight rows of 16 bytes are read at once: each in banks of its own?
void count_conflicts() {
  block->counts.ldmatrix++;
  for (unsigned m = 0; m < 4; m++) {
    unsigned hits[8] = {}, worst = 0;
    for (unsigned i = 0; i < 8; i++) {
      const unsigned n = ++hits[slot(m * 8 + i).u[0] / 16 % 8];
      worst = n > worst ? n : worst;
    }
    block->counts.conflicts += worst - 1;
  }
}
} // namespace emu
