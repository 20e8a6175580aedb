// Runs CUDA kernels on the processor. Every CUDA thread of a block is a fiber, blocks run one after the other or on
// several OS threads; barriers and warp collectives are the points where another fiber goes on.
//
// Found, and told with block and thread: barriers and collectives that a part of the threads never reaches or that
// threads meet at different places; accesses to shared memory out of bounds, unaligned, or of what nobody wrote; races in
// shared memory, whatever the order in which the fibers ran; copies used before they arrived; launches that the smallest
// card would refuse. A fault ends the launch, not the program. Global memory is not watched here: see emulated.rs.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

namespace emu {

constexpr unsigned WARP = 32;
constexpr size_t MOST_SHARED = 101376; // what a block may use at most on compute 8.6 and 8.9; all others have more

// What a launch asks of the emulation.
struct Options {
  uint32_t schedule;   // order: 0 warps, lanes and blocks forward, 1 all backward, else a seed by which warps are shuffled
  uint32_t os_threads; // that take blocks
  uint32_t checking;   // races and unwritten reads; 0 is faster
};

// What a launch did.
struct Counts {
  uint64_t switches, barriers, mma, ldmatrix;
  uint64_t conflicts; // bank conflicts of ldmatrix
};

struct Dim { unsigned x = 1, y = 1, z = 1; };

// cp.async on its way to shared memory.
struct Copy { uint32_t dst, bytes; const void *src; uint32_t fill; };

enum class Wait : uint8_t { None, Warp, Block };
enum class Op : uint8_t { Shfl, Mma, Ldmatrix };

struct Thread {
  void *sp = nullptr; // the fiber, while it does not run
  Dim tid;
  uint16_t flat = 0, lane = 0, warp = 0;
  bool done = false;
  Wait wait = Wait::None;
  uint32_t seen = 0;                     // the epoch that it waits to pass
  uint32_t barriers = 0;                 // block barriers passed
  std::vector<Copy> open;                // issued, not committed
  std::vector<std::vector<Copy>> groups; // committed, oldest first
};

// What a lane brings to a collective, or takes from it.
struct Slot { uint64_t u[8]; float f[4]; Op op; };

struct Warp {
  uint32_t epoch = 0, arrived = 0, arrivals = 0;
  Slot slots[2][WARP]; // of this collective and of the last
};

// The last accesses to two bytes of shared memory: by whom, and in which phase between barriers of the block (b) and
// between collectives of the thread's warp (w).
struct Shadow {
  uint16_t writer, reader;
  uint32_t write_b, write_w, read_b, read_w;
  bool many;    // read by several warps in one phase of the block
  bool lanes;   // read by several lanes of the reader's warp in one phase of the warp
  bool written; // ever
  bool coming;  // a copy may write them at any time
};

struct Block {
  Dim grid, dim, id;
  Options options{};
  Counts counts{};
  size_t shared_bytes = 0;
  uint32_t epoch = 0, arrived = 0, live = 0, size = 0;
  const char *barrier_file = nullptr; // where the first to arrive waits
  int barrier_line = 0;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  std::vector<Shadow> shadow;
  void *scheduler_sp = nullptr;
  void (*body)(void **) = nullptr;
  void **args = nullptr;
  std::string fault; // of a thread; empty: none
  alignas(128) unsigned char shared[MOST_SHARED];
};

extern thread_local Block *block;
extern thread_local Thread *thread;

// Notes a fault of the running thread and ends the launch.
[[noreturn]] void fail(const char *what, ...) __attribute__((format(printf, 1, 2)));
// What `fail` says, from the scheduler.
void note(const Thread &of, const char *what, ...) __attribute__((format(printf, 2, 3)));

// fiber.cc
void make_fibers(Block &b);
void resume(Thread &t);
void yield();

// block.cc
void run_block(Block &b);
void wait_block(const char *file, int line);
void wait_warp(Op op);
Slot &mine();              // to fill in before wait_warp
Slot &slot(unsigned lane); // of the collective just passed

// shared.cc
void touch(uint32_t at, uint32_t bytes, bool write);
void issue(uint32_t dst, uint32_t bytes, const void *src, uint32_t fill);
void commit();
void wait_groups(unsigned left);
void count_conflicts();

// mma.cc
void mma_warp(Slot (&lanes)[WARP]);

// A place in shared memory whose every access is checked.
template <class T> struct Ref {
  uint32_t at;
  operator T() const {
    touch(at, sizeof(T), false);
    T v;
    memcpy(&v, block->shared + at, sizeof v);
    return v;
  }
  const Ref &operator=(T v) const {
    touch(at, sizeof(T), true);
    memcpy(block->shared + at, &v, sizeof v);
    return *this;
  }
  const Ref &operator=(const Ref &o) const { return *this = T(o); }
};
template <class T> struct Ptr {
  uint32_t at = 0;
  Ref<T> operator[](int i) const { return {uint32_t(at + i * int(sizeof(T)))}; }
  Ptr operator+(int i) const { return {uint32_t(at + i * int(sizeof(T)))}; }
};

// A kernel by name. Its signature names each argument: `&f32 *bf16 i32 Form:20` (read, written, by value).
struct Kernel {
  const char *name;
  std::string signature;
  void (*call)(void **);
  Kernel *next;
};
extern Kernel *kernels;

template <class T> struct Name; // structures are named by STRUCTURE
template <> struct Name<float> { static std::string of() { return "f32"; } };
template <> struct Name<double> { static std::string of() { return "f64"; } };
template <> struct Name<int> { static std::string of() { return "i32"; } };
template <> struct Name<int16_t> { static std::string of() { return "i16"; } };
template <> struct Name<int64_t> { static std::string of() { return "i64"; } };
template <> struct Name<uint32_t> { static std::string of() { return "u32"; } };
template <class T> struct Name<T *> { static std::string of() { return "*" + Name<T>::of(); } };
template <class T> struct Name<const T *> { static std::string of() { return "&" + Name<T>::of(); } };

template <auto F> struct Trampoline;
template <class... A, void (*F)(A...)> struct Trampoline<F> {
  template <size_t... I> static void go(void **a, std::index_sequence<I...>) { F(*static_cast<A *>(a[I])...); }
  static void call(void **a) { go(a, std::index_sequence_for<A...>{}); }
  static std::string signature() {
    std::string all;
    ((all += all.empty() ? Name<A>::of() : " " + Name<A>::of()), ...);
    return all;
  }
};
struct Register {
  Kernel kernel;
  template <auto F> static Register of(const char *name) {
    return Register(name, Trampoline<F>::signature(), &Trampoline<F>::call);
  }
  Register(const char *name, std::string signature, void (*call)(void **)) : kernel{name, signature, call, kernels} {
    kernels = &kernel;
  }
};
} // namespace emu
