// Fibers: a stack each, and a switch that keeps what the ABI says a callee keeps.
#include "emu.h"
#include <new>
#include <sys/mman.h>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

extern "C" void emu_switch(void **save, void *load) asm("emu_switch");
#if defined(__x86_64__)
asm(R"(
.text
.globl emu_switch
emu_switch:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
)");
#elif defined(__aarch64__)
asm(R"(
.text
.globl emu_switch
emu_switch:
  sub sp, sp, #160
  stp x19, x20, [sp]
  stp x21, x22, [sp,#16]
  stp x23, x24, [sp,#32]
  stp x25, x26, [sp,#48]
  stp x27, x28, [sp,#64]
  stp x29, x30, [sp,#80]
  stp d8, d9, [sp,#96]
  stp d10, d11, [sp,#112]
  stp d12, d13, [sp,#128]
  stp d14, d15, [sp,#144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp]
  ldp x21, x22, [sp,#16]
  ldp x23, x24, [sp,#32]
  ldp x25, x26, [sp,#48]
  ldp x27, x28, [sp,#64]
  ldp x29, x30, [sp,#80]
  ldp d8, d9, [sp,#96]
  ldp d10, d11, [sp,#112]
  ldp d12, d13, [sp,#128]
  ldp d14, d15, [sp,#144]
  add sp, sp, #160
  ret
)");
#else
#error "a context switch for this processor is wanted"
#endif

namespace emu {

constexpr size_t STACK = 256 << 10;

// The stacks of an OS thread's fibers, kept from block to block.
struct Stacks {
  unsigned char *at = nullptr;
  size_t count = 0;
  ~Stacks() { release(); }
  void release() {
    if (at) munmap(at, count * STACK);
    at = nullptr;
  }
  void want(size_t n) {
    if (n <= count) return;
    release();
    void *fresh = mmap(nullptr, n * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (fresh == MAP_FAILED) throw std::bad_alloc();
    at = static_cast<unsigned char *>(fresh);
    count = n;
  }
};
static thread_local Stacks stacks;

// The address sanitizer is told whose stack comes next.
static void leaves([[maybe_unused]] bool for_good, [[maybe_unused]] void **fake, [[maybe_unused]] unsigned char *to) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(for_good ? nullptr : fake, to, to ? STACK : 0);
#endif
}
static void arrives([[maybe_unused]] void *fake) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
}

void yield() {
  void *fake = nullptr;
  block->counts.switches++;
  leaves(thread->done, &fake, nullptr);
  emu_switch(&thread->sp, block->scheduler_sp);
  arrives(fake);
}

void resume(Thread &t) {
  void *fake = nullptr;
  thread = &t;
  leaves(false, &fake, stacks.at + size_t(t.flat) * STACK);
  emu_switch(&block->scheduler_sp, t.sp);
  arrives(fake);
  thread = nullptr;
}

static void first_steps() {
  arrives(nullptr);
  block->body(block->args);
  if (!thread->open.empty() || !thread->groups.empty()) fail("a thread ends with copies in flight");
  thread->done = true;
  block->live--;
  // A thread that has ended no longer holds up a barrier of the block.
  if (block->live && block->arrived == block->live) {
    block->arrived = 0;
    block->epoch++;
  }
  yield();
  __builtin_trap(); // nobody resumes it
}

static void *prepare(unsigned char *stack) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(stack, STACK); // what an earlier block's thread left
#endif
  const uintptr_t top = (uintptr_t(stack) + STACK) & ~uintptr_t(15);
#if defined(__x86_64__)
  void **p = reinterpret_cast<void **>(top);
  *--p = nullptr; // keeps the alignment of the ABI at entry
  *--p = reinterpret_cast<void *>(&first_steps);
  for (int i = 0; i < 6; i++) *--p = nullptr;
  return p;
#else
  uint64_t *p = reinterpret_cast<uint64_t *>(top - 160);
  memset(p, 0, 160);
  p[11] = reinterpret_cast<uint64_t>(&first_steps); // x30
  return p;
#endif
}

void make_fibers(Block &b) {
  stacks.want(b.size);
  for (Thread &t : b.threads) t.sp = prepare(stacks.at + size_t(t.flat) * STACK);
}
} // namespace emu
