/*
 * Takes as much as it is given of everything that the kernel counts for each user, says how much that was, and keeps it until
 * it is killed.
 *
 *   exhaust QUEUES FILES [MOST]    QUEUES: a mounted mqueue; FILES: a folder for files to watch; MOST: of each, default: all
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LOCKED_BYTES (64 * 1024)

static const char *queues, *files;
static int watcher = -1;

static int instance(long i) {
  (void)i;
  return inotify_init1(IN_CLOEXEC);
}

static int watch(long i) {
  char name[256];
  snprintf(name, sizeof name, "%s/w%ld", files, i);
  int fd = open(name, O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return -1;
  close(fd);
  return inotify_add_watch(watcher, name, IN_MODIFY);
}

static int queue(long i) {
  char name[256];
  snprintf(name, sizeof name, "%s/q%ld-%d", queues, i, getpid());
  int fd = open(name, O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd >= 0) close(fd); /* it stays until it is unlinked */
  return fd;
}

static int timer(long i) {
  (void)i;
  int made;
  /* Past glibc, which would use a thread for some. */
  return syscall(SYS_timer_create, CLOCK_MONOTONIC, NULL, &made);
}

static int lock(long i) {
  (void)i;
  int id = shmget(IPC_PRIVATE, LOCKED_BYTES, IPC_CREAT | 0600);
  if (id < 0) return -1;
  int locked = shmctl(id, SHM_LOCK, NULL);
  int why = errno;
  if (locked < 0) shmctl(id, IPC_RMID, NULL);
  errno = why;
  return locked;
}

static void take(const char *what, int (*one)(long), long most) {
  long got = 0;
  while (got < most && one(got) >= 0) got++;
  printf("%s %ld %s\n", what, got, got < most ? strerrorname_np(errno) : "-");
  fflush(stdout);
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  queues = argv[1];
  files = argv[2];
  long most = argc > 3 ? atol(argv[3]) : 1000000;
  umask(0);
  watcher = inotify_init1(IN_CLOEXEC);
  take("watches", watch, most);
  take("instances", instance, most);
  take("queues", queue, most);
  take("timers", timer, most);
  take("locked", lock, most);
  puts("ready");
  fflush(stdout);
  if (argc > 3) return 0;
  for (;;) pause();
}
