// One block: its threads in turn, its barriers and the collectives of its warps.
#include "emu.h"
#include <algorithm>
#include <cstdarg>
#include <cstdio>

namespace emu {
thread_local Block *block;
thread_local Thread *thread;

static void note_args(const Thread &of, const char *what, va_list args) {
  char text[400], place[100];
  vsnprintf(text, sizeof text, what, args);
  const Dim id = block->id;
  snprintf(place, sizeof place, " (block %u,%u,%u thread %u)", id.x, id.y, id.z, of.flat);
  if (block->fault.empty()) block->fault = std::string(text) + place;
}

void note(const Thread &of, const char *what, ...) {
  va_list args;
  va_start(args, what);
  note_args(of, what, args);
  va_end(args);
}

void fail(const char *what, ...) {
  va_list args;
  va_start(args, what);
  note_args(*thread, what, args);
  va_end(args);
  yield(); // to the scheduler, which resumes nobody any more
  __builtin_trap();
}

void wait_block(const char *file, int line) {
  Thread &t = *thread;
  block->counts.barriers++;
  if (block->arrived == 0) {
    block->barrier_file = file;
    block->barrier_line = line;
  } else if (line != block->barrier_line || strcmp(file, block->barrier_file)) {
    fail("threads of a block meet at different barriers: lines %d and %d", block->barrier_line, line);
  }
  const uint32_t at = block->epoch;
  if (++block->arrived == block->live) {
    block->arrived = 0;
    block->epoch++;
  } else {
    t.wait = Wait::Block;
    t.seen = at;
    while (block->epoch == at) yield();
    t.wait = Wait::None;
  }
  t.barriers++;
}

Slot &mine() {
  Warp &w = block->warps[thread->warp];
  return w.slots[w.epoch & 1][thread->lane];
}

Slot &slot(unsigned lane) {
  Warp &w = block->warps[thread->warp];
  return w.slots[(w.epoch & 1) ^ 1][lane];
}

void wait_warp(Op op) {
  Thread &t = *thread;
  Warp &w = block->warps[t.warp];
  const unsigned first = t.warp * WARP, count = std::min(WARP, block->size - first);
  if (count < WARP) fail("a collective of a warp of %u threads", count);
  for (unsigned i = 0; i < count; i++)
    if (block->threads[first + i].done) fail("a collective waits for lane %u, which has ended", i);
  const uint32_t at = w.epoch;
  w.slots[at & 1][t.lane].op = op;
  if (w.arrived && w.slots[at & 1][__builtin_ctz(w.arrivals)].op != op) fail("lanes of a warp meet at different collectives");
  w.arrivals |= 1u << t.lane;
  if (++w.arrived == count) {
    w.arrived = w.arrivals = 0;
    if (op == Op::Mma) mma_warp(w.slots[at & 1]);
    w.epoch++;
    return;
  }
  t.wait = Wait::Warp;
  t.seen = at;
  while (w.epoch == at) yield();
  t.wait = Wait::None;
}

static void begin(Block &b) {
  b.size = b.live = b.dim.x * b.dim.y * b.dim.z;
  b.epoch = b.arrived = 0;
  b.threads.resize(b.size);
  b.warps.resize((b.size + WARP - 1) / WARP);
  for (Warp &w : b.warps) w.epoch = w.arrived = w.arrivals = 0;
  memset(b.shared, 0xff, b.shared_bytes); // NaN in every format
  if (b.options.checking) b.shadow.assign(b.shared_bytes / 2 + 1, Shadow{0xffff, 0xffff, 0, 0, 0, 0, false, false, false, false});
  for (uint32_t i = 0; i < b.size; i++) {
    Thread &t = b.threads[i];
    t.tid = {i % b.dim.x, i / b.dim.x % b.dim.y, i / b.dim.x / b.dim.y};
    t.flat = uint16_t(i);
    t.lane = uint16_t(i % WARP);
    t.warp = uint16_t(i / WARP);
    t.done = false;
    t.wait = Wait::None;
    t.barriers = 0;
    t.open.clear();
    t.groups.clear();
  }
  make_fibers(b);
}

static bool ready(const Block &b, const Thread &t) {
  const bool at_barrier = t.wait == Wait::Block && t.seen == b.epoch;
  const bool at_collective = t.wait == Wait::Warp && t.seen == b.warps[t.warp].epoch;
  return !t.done && !at_barrier && !at_collective;
}

// Runs the lanes of a warp as far as they come without the other warps; whether any ran.
static bool run_warp(Block &b, unsigned warp) {
  const unsigned first = warp * WARP, count = std::min(WARP, b.size - first);
  bool any = false;
  for (bool again = true; again;) {
    again = false;
    for (unsigned i = 0; i < count; i++) {
      Thread &t = b.threads[first + (b.options.schedule == 1 ? count - 1 - i : i)];
      if (!ready(b, t)) continue;
      resume(t);
      again = any = true;
      if (!b.fault.empty()) return true;
    }
  }
  return any;
}

// The order of the warps in the next round.
static void shuffle(std::vector<unsigned> &warps, unsigned schedule, uint32_t &state) {
  if (schedule < 2) return;
  for (size_t i = warps.size(); i > 1; i--) {
    state = state * 1664525u + 1013904223u;
    std::swap(warps[i - 1], warps[(state >> 8) % i]);
  }
}

void run_block(Block &b) {
  block = &b;
  begin(b);
  uint32_t state = b.options.schedule * 2654435761u + 1;
  std::vector<unsigned> order;
  for (unsigned i = 0; i < b.warps.size(); i++) order.push_back(i);
  if (b.options.schedule == 1) std::reverse(order.begin(), order.end());
  while (b.live && b.fault.empty()) {
    bool any = false;
    shuffle(order, b.options.schedule, state);
    for (unsigned warp : order) {
      any |= run_warp(b, warp);
      if (!b.fault.empty()) break;
    }
    if (any) continue;
    const auto stuck = std::find_if(b.threads.begin(), b.threads.end(), [](const Thread &t) { return !t.done; });
    note(*stuck, "deadlock: %u of %u threads wait for others that never come", b.live, b.size);
  }
  block = nullptr;
}
} // namespace emu
