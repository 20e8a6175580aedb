// A driver without a card, for tests: what the program calls of libcuda.so.1, over the emulation of the kernels. What it
// pretends comes from the environment:
//   FAKE_CARDS      how many cards there are; CUDA_VISIBLE_DEVICES hides some, as it does with the real one
//   FAKE_COMPUTE    their compute capability, 90 if not said
//   FAKE_CUDA       the CUDA of the driver, 13000 if not said
//   FAKE_INIT       what cuInit answers
//   FAKE_MEMORY     bytes of each card
//   FAKE_NAME       what they are called
//   FAKE_KERNELS    the library of emulated kernels
//   FAKE_LOST       a file: a card is lost at its next launch, once, if it is there
//   FAKE_LOST_LATE  the same by its next norm, whose launch succeeds: the product behind it is the first to be told
#include <dlfcn.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace {
enum { OK = 0, INVALID = 1, NO_MEMORY = 2, NO_DEVICE = 100, NOT_FOUND = 500, LAUNCH_FAILED = 719 };

long said(const char* name, long otherwise) {
  const char* text = getenv(name);
  return text && *text ? atol(text) : otherwise;
}

// Sixteen bytes, the last of which is the card's number from 1.
std::string name_of(int card) {
  char text[64];
  snprintf(text, sizeof text, "GPU-00000000-0000-0000-0000-0000000000%02x", card + 1);
  return text;
}

// The cards that this process is shown.
std::vector<int> shown() {
  const int all = (int)said("FAKE_CARDS", 0);
  std::vector<int> cards;
  const char* only = getenv("CUDA_VISIBLE_DEVICES");
  for (int card = 0; card < all; ++card)
    if (!only || strstr(only, name_of(card).c_str())) cards.push_back(card);
  return cards;
}

// A program with several cards has a thread for each.
std::recursive_mutex door;
using Alone = std::lock_guard<std::recursive_mutex>;
std::map<uint64_t, size_t> memory;
size_t used() {
  const Alone alone(door);
  size_t sum = 0;
  for (auto& piece : memory) sum += piece.second;
  return sum;
}
size_t total() { return (size_t)said("FAKE_MEMORY", 1l << 32); }

using Launch = int (*)(const char*, const unsigned (*)[3], const unsigned (*)[3], size_t, void**,
                       const unsigned (*)[3], uint64_t (*)[5], char*, size_t);
using Kernel = const char* (*)(size_t, const char**);
void* kernels() {
  static void* opened = dlopen(getenv("FAKE_KERNELS") ? getenv("FAKE_KERNELS") : "", RTLD_NOW);
  return opened;
}
std::atomic<bool> lost{false};
// Whoever removes the file has the loss that it stands for.
bool comes(const char* name) {
  const char* file = getenv(name);
  return file && remove(file) == 0;
}
int state() { return lost ? LAUNCH_FAILED : OK; }
int token;
}  // namespace

extern "C" {
int cuGetErrorString(int error, const char** text) {
  *text = error == NO_DEVICE       ? "no CUDA-capable device is detected"
          : error == NO_MEMORY     ? "out of memory"
          : error == LAUNCH_FAILED ? "unspecified launch failure"
          : error == 803           ? "system has unsupported display driver / cuda driver combination"
                                   : "unknown error";
  return OK;
}
int cuGetErrorName(int, const char** text) { return *text = "CUDA_ERROR", OK; }
int cuDriverGetVersion(int* version) { return *version = (int)said("FAKE_CUDA", 13000), OK; }
int cuInit(unsigned) {
  if (long answer = said("FAKE_INIT", OK)) return (int)answer;
  return shown().empty() ? NO_DEVICE : OK;
}
int cuDeviceGetCount(int* count) { return *count = (int)shown().size(), OK; }
int cuDeviceGet(int* device, int index) {
  if (index < 0 || index >= (int)shown().size()) return INVALID;
  return *device = shown()[index], OK;
}
int cuDeviceGetName(char* name, int bytes, int) { 
  const char* text = getenv("FAKE_NAME");
  return snprintf(name, bytes, "%s", text ? text : "Pretended T4"), OK;
 }
int cuDeviceGetUuid_v2(char* uuid, int device) {
  memset(uuid, 0, 16);
  return uuid[15] = (char)(device + 1), OK;
}
int cuDeviceGetAttribute(int* value, int which, int) {
  const int compute = (int)said("FAKE_COMPUTE", 90);
  return *value = which == 75 ? compute / 10 : which == 76 ? compute % 10 : 0, OK;
}
int cuDeviceTotalMem_v2(size_t* bytes, int) { return *bytes = total(), OK; }

int cuDevicePrimaryCtxRetain(void** context, int) { return *context = &token, OK; }
int cuDevicePrimaryCtxRelease_v2(int) { return OK; }
int cuCtxSetCurrent(void*) { return OK; }
int cuStreamCreate(void** stream, unsigned) { return *stream = &token, OK; }
int cuStreamDestroy_v2(void*) { return OK; }
int cuStreamSynchronize(void*) { return state(); }
int cuModuleLoadData(void** module, const void*) { return *module = &token, kernels() ? OK : INVALID; }
int cuModuleUnload(void*) { return OK; }
int cuModuleGetFunction(void** function, void*, const char* name) {
  auto kernel = (Kernel)dlsym(kernels(), "emu_kernel");
  const char *found, *signature;
  for (size_t i = 0; (found = kernel(i, &signature)); ++i)
    if (!strcmp(found, name)) return *function = (void*)found, OK;
  return NOT_FOUND;
}
int cuFuncSetAttribute(void*, int, int) { return OK; }

int cuMemGetInfo_v2(size_t* free, size_t* all) { return *all = total(), *free = total() - used(), OK; }
int cuMemAlloc_v2(uint64_t* at, size_t bytes) {
  const Alone alone(door);
  if (used() + bytes > total()) return NO_MEMORY;
  *at = (uint64_t)aligned_alloc(256, (bytes + 255) / 256 * 256);
  return memory[*at] = bytes, OK;
}
int cuMemFree_v2(uint64_t at) {
  const Alone alone(door);
  return free((void*)at), memory.erase(at), OK;
}
int cuMemHostAlloc(void** at, size_t bytes, unsigned) { return *at = malloc(bytes), *at ? OK : NO_MEMORY; }
int cuMemFreeHost(void* at) { return free(at), OK; }
int cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t bytes, void*) { return memcpy((void*)to, from, bytes), state(); }
int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t bytes, void*) { return memcpy(to, (void*)from, bytes), state(); }
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void*) { return memcpy((void*)to, (void*)from, bytes), state(); }
int cuMemsetD8Async(uint64_t to, unsigned char byte, size_t bytes, void*) { return memset((void*)to, byte, bytes), state(); }

int cuLaunchKernel(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void*, void** args, void**) {
  if (lost || comes("FAKE_LOST")) return lost = true, LAUNCH_FAILED;
  if (strstr((const char*)function, "rms_norm_forward") && comes("FAKE_LOST_LATE")) return lost = true, OK;
  const unsigned grid[3] = {gx, gy, gz}, block[3] = {bx, by, bz}, options[3] = {0, 1, 0};
  uint64_t counts[5] = {};
  char why[512] = "";
  auto launch = (Launch)dlsym(kernels(), "emu_launch");
  if (launch((const char*)function, &grid, &block, shared, args, &options, &counts, why, sizeof why)) {
    fprintf(stderr, "%s: %s\n", (const char*)function, why);
    lost = true;
  }
  return state();
}

int cuEventCreate(void** event, unsigned) { return *event = &token, OK; }
int cuEventRecord(void*, void*) { return state(); }
int cuEventSynchronize(void*) { return state(); }
// The newer function of that name, of CUDA 12.8, is not here: older drivers lack it.
int cuEventElapsedTime(float* ms, void*, void*) { return *ms = 7, OK; }
int cuEventDestroy_v2(void*) { return OK; }
}
