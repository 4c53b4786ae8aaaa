/*
 * Preloaded into the service by `npm run bench` (LD_PRELOAD): every fsync and fdatasync takes SLOW_FSYNC_US microseconds longer, as
 * on a slower disk. The sync itself is done too.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

static void wait_longer(void) {
  const char *text = getenv("SLOW_FSYNC_US");
  if (text != NULL) usleep((useconds_t)atol(text));
}

static int slowly(const char *name, int fd) {
  int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
  wait_longer();
  return real(fd);
}

int fsync(int fd) { return slowly("fsync", fd); }

int fdatasync(int fd) { return slowly("fdatasync", fd); }
