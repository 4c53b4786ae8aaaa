/*
 * Preloaded into a process whose journal is to fail (LD_PRELOAD): while there is a file `sync` in the directory FAULTS, fsync and
 * fdatasync of the journal's segments answer EIO; while there is one called `cut`, so does ftruncate. What was written stays written.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fails(int fd, const char *what) {
  const char *faults = getenv("FAULTS");
  char flag[4096], link[64], target[4096];
  if (faults == NULL) return 0;
  snprintf(flag, sizeof flag, "%s/%s", faults, what);
  if (access(flag, F_OK) != 0) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, target, sizeof target - 1);
  if (length < 0) return 0;
  target[length] = '\0';
  if (strstr(target, "/journal-0") == NULL) return 0;
  errno = EIO;
  return 1;
}

static int sync_unless(const char *name, int fd) {
  int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
  return fails(fd, "sync") ? -1 : real(fd);
}

static int cut_unless(const char *name, int fd, off_t length) {
  int (*real)(int, off_t) = (int (*)(int, off_t))dlsym(RTLD_NEXT, name);
  return fails(fd, "cut") ? -1 : real(fd, length);
}

int fsync(int fd) { return sync_unless("fsync", fd); }
int fdatasync(int fd) { return sync_unless("fdatasync", fd); }
int ftruncate(int fd, off_t length) { return cut_unless("ftruncate", fd, length); }
int ftruncate64(int fd, off_t length) { return cut_unless("ftruncate64", fd, length); }
