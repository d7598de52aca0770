/*
 * A client under steady light load: `steady-client PORT PER_SECOND SECONDS`, in the network namespace of what it asks. Each
 * request is sent at its own moment, whether the one before was answered or not: a server that stalls is seen as slow by all
 * that came meanwhile. Prints the latencies in milliseconds as JSON. It collects no garbage and compiles nothing while it
 * runs: what it measures is the server's delay and not its own.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* What failed or took this long counts as this long. */
#define LONGEST_NS 5000000000LL
#define REQUEST "GET / HTTP/1.0\r\n\r\n"

struct asked {
  long long due_ns, took_ns;
  int fd, sent, received;
  char head[16]; /* of the answer: its status */
};

static long long now_ns(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static void end(struct asked *it, int answered) {
  close(it->fd);
  it->fd = -1;
  it->took_ns = answered ? now_ns() - it->due_ns : LONGEST_NS;
}

static void begin(struct asked *it, int port) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  it->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (connect(it->fd, (struct sockaddr *)&at, sizeof at) < 0 && errno != EINPROGRESS) end(it, 0);
}

/* Sends the request once connected; then reads until the server closes. */
static void proceed(struct asked *it) {
  if (!it->sent) {
    it->sent = 1;
    if (send(it->fd, REQUEST, sizeof REQUEST - 1, MSG_NOSIGNAL) < 0) end(it, 0);
    return;
  }
  char bytes[4096];
  ssize_t n = read(it->fd, bytes, sizeof bytes);
  if (n < 0 && errno == EAGAIN) return;
  if (n <= 0) return end(it, n == 0 && memmem(it->head, sizeof it->head, " 200 ", 5) != NULL);
  for (ssize_t i = 0; i < n && it->received < (int)sizeof it->head; i++) it->head[it->received++] = bytes[i];
}

int main(int count, char **words) {
  if (count != 4) return 2;
  int port = atoi(words[1]), per_second = atoi(words[2]), total = per_second * atoi(words[3]);
  struct asked *all = calloc(total, sizeof *all);
  struct pollfd *polled = calloc(total, sizeof *polled);
  long long began_ns = now_ns();
  int first = 0, next = 0; /* all before the first are done, those from the next on are not sent */
  while (first < total) {
    long long now = now_ns();
    while (next < total && now >= began_ns + next * 1000000000LL / per_second) {
      all[next].due_ns = began_ns + next * 1000000000LL / per_second;
      begin(&all[next++], port);
    }
    while (first < next && all[first].fd < 0) first++;
    for (int i = first; i < next; i++) polled[i - first] = (struct pollfd){all[i].fd, all[i].sent ? POLLIN : POLLOUT, 0};
    long long until_ns = next < total ? began_ns + next * 1000000000LL / per_second - now_ns() : 100000000LL;
    if (until_ns < 0) until_ns = 0;
    struct timespec wait = {until_ns / 1000000000LL, until_ns % 1000000000LL};
    ppoll(polled, next - first, &wait, NULL);
    for (int i = first; i < next; i++) {
      if (all[i].fd < 0) continue;
      if (polled[i - first].revents) proceed(&all[i]);
      if (all[i].fd >= 0 && now_ns() - all[i].due_ns > LONGEST_NS) end(&all[i], 0);
    }
  }
  for (int i = 0; i < total; i++) printf("%s%.3f", i ? "," : "[", all[i].took_ns / 1e6);
  puts("]");
  return 0;
}
