/*
 * One load on one part of the machine: `load NAME [ADDRESS]` does a fixed amount of it, measured in here so that starting a container does
 * not count, and prints milliseconds. Linked without libraries, so the same bytes run in any root.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KIB 1024L
#define MIB (1024L * KIB)

static void fail(const char *what) {
  perror(what);
  exit(1);
}

/* Whole numbers in registers: nothing but the processor. */
static void cpu(void) {
  uint64_t x = 88172645463325252ULL;
  for (long i = 0; i < 250000000L; i++) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
  }
  volatile uint64_t sink = x;
  (void)sink;
}

static char *pages(long size) {
  char *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) fail("mmap");
  memset(at, 1, size);
  return at;
}

/* Copies far more than the caches hold. */
static char *from, *to;
static void memory(void) {
  for (int i = 0; i < 20; i++) {
    memcpy(to, from, 128 * MIB);
    __asm__ volatile("" ::: "memory");
  }
}

static void forks(void) {
  char *none[] = {NULL};
  for (int i = 0; i < 600; i++) {
    pid_t child = fork();
    if (child < 0) fail("fork");
    if (child == 0) {
      char *again[] = {"load", "nothing", NULL};
      execve("/proc/self/exe", again, none);
      _exit(1);
    }
    int status;
    if (waitpid(child, &status, 0) != child || status != 0) fail("child");
  }
}

static int file(void) {
  const char *path = getenv("LOAD_FILE");
  int fd = open(path ? path : "/load.file", O_RDWR | O_CREAT | O_TRUNC, 0600);
  if (fd < 0) fail("open");
  unlink(path ? path : "/load.file");
  return fd;
}

/* What a database does at every commit. */
static void synced(int fd) {
  static char block[4 * KIB];
  for (int i = 0; i < 800; i++) {
    if (pwrite(fd, block, sizeof block, i * sizeof block) != sizeof block) fail("pwrite");
    if (fdatasync(fd)) fail("fdatasync");
  }
}

static void sequential(int fd) {
  static char block[MIB];
  for (int i = 0; i < 384; i++)
    if (pwrite(fd, block, sizeof block, i * sizeof block) != sizeof block) fail("pwrite");
  if (fdatasync(fd)) fail("fdatasync");
}

/* Both ends of a TCP connection over loopback; the child is the other end. */
static int peer(void (*serve)(int)) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof at;
  int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
  if (listener < 0 || bind(listener, (void *)&at, size) || listen(listener, 1)) fail("listen");
  if (getsockname(listener, (void *)&at, &size)) fail("getsockname");
  if (fork() == 0) {
    int fd = accept(listener, NULL, NULL);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    serve(fd);
    _exit(0);
  }
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(fd, (void *)&at, size)) fail("connect");
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  return fd;
}

static void swallow(int fd) {
  static char block[256 * KIB];
  while (read(fd, block, sizeof block) > 0) continue;
}

static void echo(int fd) {
  char byte;
  while (read(fd, &byte, 1) == 1)
    if (write(fd, &byte, 1) != 1) return;
}

#define PORT 7531
#define SWALLOW 's'
#define ECHO 'e'

/* `load answer`: the other end for whoever asks from elsewhere, and says in its first byte what for. For ever. */
static void answer(void) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(PORT)};
  int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(listener, (void *)&at, sizeof at) || listen(listener, 8)) fail("listen");
  for (;;) {
    int fd = accept(listener, NULL, NULL);
    char what;
    if (fd < 0) fail("accept");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (read(fd, &what, 1) == 1) (what == SWALLOW ? swallow : echo)(fd);
    close(fd);
  }
}

/* Connects to `load answer`, which may be about to start. */
static int distant(const char *address, char what) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(PORT)};
  if (inet_pton(AF_INET, address, &at.sin_addr) != 1) fail("address");
  for (int tries = 0;; tries++) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (void *)&at, sizeof at) == 0 && write(fd, &what, 1) == 1) return fd;
    if (tries == 500) fail("connect");
    close(fd);
    usleep(10000);
  }
}

static void stream(int fd) {
  static char block[256 * KIB];
  for (long sent = 0; sent < 1024 * MIB;) {
    long part = write(fd, block, sizeof block);
    if (part <= 0) fail("write");
    sent += part;
  }
  shutdown(fd, SHUT_WR);
  char none;
  if (read(fd, &none, 1) != 0) fail("the other end");
}

static void requests(int fd) {
  char byte = 1;
  for (int i = 0; i < 40000; i++)
    if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1) fail("echo");
}

static double now(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return at.tv_sec * 1e3 + at.tv_nsec / 1e6;
}

int main(int count, char **args) {
  const char *name = count >= 2 ? args[1] : "", *address = count >= 3 ? args[2] : NULL;
  if (strcmp(name, "nothing") == 0) return 0;
  int fd = -1;
  if (strcmp(name, "memory") == 0) from = pages(128 * MIB), to = pages(128 * MIB);
  if (strcmp(name, "synced") == 0 || strcmp(name, "sequential") == 0) fd = file();
  if (strcmp(name, "answer") == 0) answer();
  if (strcmp(name, "stream") == 0) fd = address ? distant(address, SWALLOW) : peer(swallow);
  if (strcmp(name, "requests") == 0) fd = address ? distant(address, ECHO) : peer(echo);
  double from_ms = now();
  if (strcmp(name, "cpu") == 0) cpu();
  else if (strcmp(name, "memory") == 0) memory();
  else if (strcmp(name, "fork") == 0) forks();
  else if (strcmp(name, "synced") == 0) synced(fd);
  else if (strcmp(name, "sequential") == 0) sequential(fd);
  else if (strcmp(name, "stream") == 0) stream(fd);
  else if (strcmp(name, "requests") == 0) requests(fd);
  else return 2;
  printf("%.3f\n", now() - from_ms);
  return 0;
}
