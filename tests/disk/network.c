// For tests, loaded before the C library: folders whose path has `FAKE_NETWORK` in it lie on an NFS.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>

static void pretend(const char* path, long* type) {
  const char* part = getenv("FAKE_NETWORK");
  if (part && strstr(path, part)) *type = 0x6969;
}

int statfs(const char* path, struct statfs* found) {
  int (*real)(const char*, struct statfs*) = dlsym(RTLD_NEXT, "statfs");
  const int answer = real(path, found);
  if (answer == 0) pretend(path, (long*)&found->f_type);
  return answer;
}

int statfs64(const char* path, struct statfs64* found) {
  int (*real)(const char*, struct statfs64*) = dlsym(RTLD_NEXT, "statfs64");
  const int answer = real(path, found);
  if (answer == 0) pretend(path, (long*)&found->f_type);
  return answer;
}
