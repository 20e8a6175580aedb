// Launches: the kernels by name, their blocks on one or more OS threads. This is what Rust calls.
#include "emu.h"
#include <atomic>
#include <cstdio>
#include <memory>
#include <mutex>
#include <thread>

namespace emu {
Kernel *kernels;

static const Kernel *find(const char *name) {
  for (const Kernel *k = kernels; k; k = k->next)
    if (!strcmp(k->name, name)) return k;
  return nullptr;
}

static void add(Counts &sum, const Counts &c) {
  sum.switches += c.switches;
  sum.barriers += c.barriers;
  sum.mma += c.mma;
  sum.ldmatrix += c.ldmatrix;
  sum.conflicts += c.conflicts;
}

// A launch that OS threads work on together.
struct Grid {
  Dim grid, dim;
  size_t shared = 0;
  Options options{};
  const Kernel *kernel = nullptr;
  void **args = nullptr;
  std::atomic<unsigned> next{0};
  std::atomic<bool> failed{false};
  std::mutex lock;
  Counts counts{};
  std::string fault;

  void work() {
    static thread_local const auto own = std::make_unique<Block>();
    Block &b = *own;
    b.grid = grid;
    b.dim = dim;
    b.shared_bytes = shared;
    b.options = options;
    b.body = kernel->call;
    b.args = args;
    b.counts = {};
    b.fault.clear();
    const unsigned blocks = grid.x * grid.y * grid.z;
    for (unsigned i; !failed && (i = next++) < blocks;) {
      const unsigned at = options.schedule == 1 ? blocks - 1 - i : i;
      b.id = {at % grid.x, at / grid.x % grid.y, at / grid.x / grid.y};
      run_block(b);
      if (!b.fault.empty()) failed = true;
    }
    const std::lock_guard<std::mutex> guard(lock);
    add(counts, b.counts);
    if (fault.empty()) fault = b.fault;
  }

  void run() {
    if (options.os_threads <= 1) return work();
    std::vector<std::thread> pool;
    for (unsigned i = 0; i < options.os_threads; i++) pool.emplace_back([this] { work(); });
    for (std::thread &t : pool) t.join();
  }
};
} // namespace emu

// The kernel of a number; null behind the last.
extern "C" const char *emu_kernel(size_t number, const char **signature) {
  const emu::Kernel *k = emu::kernels;
  while (k && number--) k = k->next;
  if (k) *signature = k->signature.c_str();
  return k ? k->name : nullptr;
}

// 0, or 1 and what went wrong in `why`. The arguments are as for cuLaunchKernel: the address of each.
extern "C" int emu_launch(const char *name, const uint32_t grid[3], const uint32_t dim[3], size_t shared, void **args,
                          const emu::Options *options, emu::Counts *counts, char *why, size_t why_bytes) {
  const emu::Kernel *kernel = emu::find(name);
  const size_t threads = size_t(dim[0]) * dim[1] * dim[2];
  const char *wrong = !kernel ? "there is no such kernel"
                      : size_t(grid[0]) * grid[1] * grid[2] == 0 ? "a grid without blocks"
                      : grid[1] > 65535 || grid[2] > 65535 ? "a grid is at most 65535 high and deep"
                      : threads == 0 || threads > 1024 ? "a block has 1 to 1024 threads"
                      : shared > emu::MOST_SHARED ? "a block asks for too much shared memory"
                                                  : nullptr;
  if (wrong) {
    snprintf(why, why_bytes, "%s", wrong);
    return 1;
  }
  emu::Grid g;
  g.grid = {grid[0], grid[1], grid[2]};
  g.dim = {dim[0], dim[1], dim[2]};
  g.shared = shared;
  g.options = *options;
  g.kernel = kernel;
  g.args = args;
  g.run();
  *counts = g.counts;
  snprintf(why, why_bytes, "%s", g.fault.c_str());
  return !g.fault.empty();
}
