/*
 * Says which system calls get past the filter that this process is under, without making one of them.
 *
 * It puts a filter of its own on top, which hands every call that carries a mark to a listener. The kernel obeys the stricter
 * of two filters, and an error is stricter than a listener: so a marked call arrives at the listener exactly if the filter
 * below would have let it go on to the kernel. The listener answers it with an error, and nothing has happened.
 *
 * Prints, for numbers 0 to LAST through each entry point: "ENTRY NUMBER reached", "… refused ERRNO" or "… killed SIGNAL".
 * Then, for every line "NUMBER ARG0 ARG1 ARG2 ARG3" on standard input, the same for these arguments, with the entry "args".
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define LAST 479
#define MARK 0x5eed5eedU
#define X32_BIT 0x40000000U
#define ANSWER 1234 /* no errno of Linux */

/* Offset of the lower half of the sixth argument. */
#define ARG5 (offsetof(struct seccomp_data, args) + 5 * 8)

static int listener;

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static int listen_for_marked(void) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ARG5),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MARK, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) fail("no_new_privs");
  return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
}

static long through_int80(long number) {
  long result;
  /* The sixth argument is in ebp, which a compiler will not hand over. */
  __asm__ volatile("push %%rbp; mov %[mark], %%ebp; int $0x80; pop %%rbp"
                   : "=a"(result)
                   : "a"(number), "b"(0), "c"(0), "d"(0), "S"(0), "D"(0), [mark] "i"(MARK)
                   : "r8", "r9", "r10", "r11", "memory");
  return (int)result < 0 ? -(int)result : 0;
}

static long through_syscall(long number, const long *a) {
  return syscall(number, a[0], a[1], a[2], a[3], 0L, (long)MARK) < 0 ? errno : 0;
}

static void probe(const char *entry, long number, const long *args) {
  int answer[2];
  if (pipe(answer)) fail("pipe");
  fflush(stdout);
  pid_t child = fork();
  if (child < 0) fail("fork");
  if (child == 0) {
    long code = strcmp(entry, "i386") == 0 ? through_int80(number) : through_syscall(number, args);
    /* With all six arguments: the mark is still in its register. */
    syscall(SYS_write, answer[1], &code, sizeof code, 0L, 0L, 0L);
    for (;;) syscall(SYS_exit_group, 0L, 0L, 0L, 0L, 0L, 0L);
  }
  close(answer[1]);
  int reached = 0;
  long code = 0;
  struct pollfd waits[2] = {{.fd = listener, .events = POLLIN}, {.fd = answer[0], .events = POLLIN}};
  for (;;) {
    if (poll(waits, 2, -1) < 0) fail("poll");
    if (waits[0].revents & POLLIN) {
      struct seccomp_notif asked = {0};
      struct seccomp_notif_resp said = {.error = -ANSWER};
      if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &asked)) fail("receive");
      reached = 1;
      said.id = asked.id;
      if (ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &said)) fail("send");
      continue;
    }
    if (waits[1].revents) {
      if (read(answer[0], &code, sizeof code) < 0) fail("read");
      break;
    }
  }
  close(answer[0]);
  int status;
  if (waitpid(child, &status, 0) != child) fail("wait");
  printf("%s %ld ", entry, entry[0] == 'x' && entry[1] == '3' ? number & ~(long)X32_BIT : number);
  if (WIFSIGNALED(status)) printf("killed %d\n", WTERMSIG(status));
  else if (reached && code == ANSWER) printf("reached\n");
  else printf("refused %ld\n", code);
}

int main(void) {
  static const long none[4];
  listener = listen_for_marked();
  if (listener < 0) fail("seccomp");
  for (long number = 0; number <= LAST; number++) {
    probe("x86_64", number, none);
    probe("x32", number | X32_BIT, none);
    probe("i386", number, none);
  }
  long number, args[4];
  while (scanf("%ld %ld %ld %ld %ld", &number, &args[0], &args[1], &args[2], &args[3]) == 5) probe("args", number, args);
  return 0;
}
