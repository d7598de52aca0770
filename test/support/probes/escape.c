/*
 * Tries what escapes are made of and says how the kernel answered: "NAME ok" or "NAME EPERM". Nothing that it tries changes
 * more than the namespaces it runs in; files of the kernel's are opened and closed again.
 *
 *   escape kernel DIR            every attempt below, with DIR to work in
 *   escape mount DIR KIND...     mounts file systems of these kinds on DIR
 *   escape process PID           what one process can do to another
 *   escape read PATH...          "NAME empty" where there is nothing to be read
 *   escape write PATH...
 *   escape writable PATH...      walks the folders; names each file that can be opened for writing, and how many it tried
 *   escape descriptors           opens as many as it may, says how many, and keeps them until it is killed
 *   escape forks                 forks until it is refused, says how many, and ends with all of them
 *   escape keep                  makes a key, shared memory and a file in memory, and says the key's number
 *   escape find KEY              looks for these
 *   escape type TEXT             types into the terminal that controls it
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/bpf.h>
#include <linux/io_uring.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/ipc.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define SHARED_NUMBER 0x5eed

static const char *dir;
static char path[4096];

static const char *at(const char *name) {
  snprintf(path, sizeof path, "%s/%s", dir, name);
  return path;
}

static long try_mount(void) { return mount("none", dir, "tmpfs", 0, NULL); }
static long try_bind(void) { return mount("/", dir, NULL, MS_BIND, NULL); }
static long try_fsopen(void) { return syscall(SYS_fsopen, "tmpfs", 0); }
static long try_unshare_user(void) { return unshare(CLONE_NEWUSER); }
static long try_unshare_mount(void) { return unshare(CLONE_NEWNS); }
static long try_setns(void) { return setns(open("/proc/self/ns/uts", O_RDONLY), CLONE_NEWUTS); }
static long try_chroot(void) { return chroot(dir); }

static long try_pivot_root(void) {
  /* In a mount namespace of its own where it can have one: the others' root must stay. */
  if (unshare(CLONE_NEWNS) == 0) {
    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
    mount("none", dir, "tmpfs", 0, NULL);
  }
  mkdir(at("old"), 0700);
  return syscall(SYS_pivot_root, dir, path);
}

static long make_node(mode_t kind, dev_t device) {
  long made = mknod(at("node"), kind | 0600, device);
  int why = errno;
  unlink(path);
  errno = why;
  return made;
}
static long try_character_device(void) { return make_node(S_IFCHR, makedev(1, 1)); }
static long try_block_device(void) { return make_node(S_IFBLK, makedev(254, 0)); }

static long try_open_by_handle(void) {
  struct {
    struct file_handle handle;
    char more[128];
  } file = {.handle = {.handle_bytes = 128}};
  int mount_id;
  if (name_to_handle_at(AT_FDCWD, "/bin", &file.handle, &mount_id, AT_SYMLINK_FOLLOW)) return -1;
  return open_by_handle_at(open("/", O_RDONLY), &file.handle, O_RDONLY);
}

static long try_bpf(void) {
  union bpf_attr map = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
  return syscall(SYS_bpf, BPF_MAP_CREATE, &map, sizeof map);
}

static long try_perf(void) {
  struct perf_event_attr event = {.type = PERF_TYPE_SOFTWARE, .size = sizeof event, .config = PERF_COUNT_SW_CPU_CLOCK};
  return syscall(SYS_perf_event_open, &event, -1, 0, -1, 0); /* all that runs on the first processor */
}

static long try_userfaultfd(void) { return syscall(SYS_userfaultfd, 0); }
static long try_io_uring(void) {
  struct io_uring_params params = {0};
  return syscall(SYS_io_uring_setup, 1, &params);
}
static long try_add_key(void) { return syscall(SYS_add_key, "user", "escape", "x", 1L, -2 /* the process's own keyring */); }
static long try_kernel_log(void) {
  char line[256];
  return klogctl(3, line, sizeof line);
}
static long try_hostname(void) { return sethostname("escaped", 7); }
static long try_real_time(void) {
  struct sched_param param = {.sched_priority = 1};
  return sched_setscheduler(0, SCHED_FIFO, &param);
}
static long try_priority(void) { return setpriority(PRIO_PROCESS, 0, -10); }
static long try_raw_socket(void) { return socket(AF_INET, SOCK_RAW, 1); }
static long try_packet_socket(void) { return socket(AF_PACKET, SOCK_RAW, 0); }
static long try_netfilter_socket(void) { return socket(AF_NETLINK, SOCK_RAW, 12); }

static pid_t target;
static long try_signal(void) { return kill(target, 0); }
static long try_ptrace(void) { return ptrace(PTRACE_SEIZE, target, 0, 0); }
static long try_memory(void) {
  char byte;
  struct iovec to = {&byte, 1}, from = {NULL, 1};
  /* Nothing lies at that address: the kernel says so to those who may look. */
  return process_vm_readv(target, &to, 1, &from, 1, 0) < 0 && errno == EFAULT ? 0 : -1;
}
static long try_namespace(void) {
  snprintf(path, sizeof path, "/proc/%d/ns/uts", target);
  int fd = open(path, O_RDONLY);
  return fd < 0 ? fd : setns(fd, CLONE_NEWUTS);
}
static long open_of(const char *name) {
  snprintf(path, sizeof path, "/proc/%d/%s", target, name);
  return open(path, O_RDONLY);
}
static long try_root(void) { return open_of("root/etc/passwd"); }
static long try_environment(void) { return open_of("environ"); }

static const struct attempt {
  const char *name;
  long (*attempt)(void);
} KERNEL[] = {
    {"mount", try_mount},
    {"bind", try_bind},
    {"fsopen", try_fsopen},
    {"unshare_user", try_unshare_user},
    {"unshare_mount", try_unshare_mount},
    {"setns", try_setns},
    {"pivot_root", try_pivot_root},
    {"chroot", try_chroot},
    {"character_device", try_character_device},
    {"block_device", try_block_device},
    {"open_by_handle", try_open_by_handle},
    {"bpf", try_bpf},
    {"perf", try_perf},
    {"userfaultfd", try_userfaultfd},
    {"io_uring", try_io_uring},
    {"add_key", try_add_key},
    {"kernel_log", try_kernel_log},
    {"hostname", try_hostname},
    {"real_time", try_real_time},
    {"priority", try_priority},
    {"raw_socket", try_raw_socket},
    {"packet_socket", try_packet_socket},
    {"netfilter_socket", try_netfilter_socket},
}, PROCESS[] = {
    {"signal", try_signal},       {"ptrace", try_ptrace},           {"memory", try_memory},
    {"namespace", try_namespace}, {"root", try_root},               {"environment", try_environment},
};

static void say(const char *name, long result) {
  printf("%s %s\n", name, result < 0 ? strerrorname_np(errno) : "ok");
  fflush(stdout);
}

/* Each in a process of its own, which takes with it what it was given. */
static void try_all(const struct attempt *all, size_t count) {
  for (const struct attempt *each = all; each < all + count; each++) {
    pid_t child = fork();
    if (child == 0) {
      errno = 0;
      say(each->name, each->attempt());
      _exit(0);
    }
    int status;
    if (child < 0 || waitpid(child, &status, 0) < 0) perror("fork");
    else if (WIFSIGNALED(status)) printf("%s SIG%s\n", each->name, sigabbrev_np(WTERMSIG(status)));
    fflush(stdout);
  }
}

static void read_one(const char *name) {
  struct stat what;
  if (stat(name, &what)) return say(name, -1);
  if (S_ISDIR(what.st_mode)) {
    DIR *folder = opendir(name);
    int entries = 0;
    if (folder == NULL) return say(name, -1);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) entries += entry->d_name[0] != '.';
    closedir(folder);
    printf("%s %s\n", name, entries ? "ok" : "empty");
    return;
  }
  char byte;
  int fd = open(name, O_RDONLY | O_NONBLOCK);
  long got = fd < 0 ? -1 : read(fd, &byte, 1);
  if (got == 0) printf("%s empty\n", name);
  else say(name, got);
  if (fd >= 0) close(fd);
}

static int tried;
static int open_for_writing(const char *name, const struct stat *what, int kind, struct FTW *where) {
  (void)where;
  if (kind != FTW_F || !S_ISREG(what->st_mode)) return 0;
  tried++;
  int fd = open(name, O_WRONLY | O_NONBLOCK);
  if (fd < 0) return 0;
  close(fd);
  puts(name);
  return 0;
}

int main(int argc, char **argv) {
  if (argc < 2) return 2;
  const char *what = argv[1];
  if (strcmp(what, "kernel") == 0 && argc == 3) {
    dir = argv[2];
    try_all(KERNEL, sizeof KERNEL / sizeof *KERNEL);
  } else if (strcmp(what, "mount") == 0) {
    for (int i = 3; i < argc; i++) {
      int mounted = mount("none", argv[2], argv[i], 0, NULL);
      say(argv[i], mounted);
      if (mounted == 0) umount(argv[2]);
    }
  } else if (strcmp(what, "process") == 0 && argc == 3) {
    target = atoi(argv[2]);
    try_all(PROCESS, sizeof PROCESS / sizeof *PROCESS);
  } else if (strcmp(what, "read") == 0) {
    for (int i = 2; i < argc; i++) read_one(argv[i]);
  } else if (strcmp(what, "write") == 0) {
    for (int i = 2; i < argc; i++) {
      int fd = open(argv[i], O_WRONLY | O_NONBLOCK);
      say(argv[i], fd);
      if (fd >= 0) close(fd);
    }
  } else if (strcmp(what, "writable") == 0) {
    for (int i = 2; i < argc; i++) nftw(argv[i], open_for_writing, 32, FTW_PHYS);
    printf("tried %d\n", tried);
  } else if (strcmp(what, "descriptors") == 0) {
    long opened = 3;
    while (open("/", O_RDONLY) >= 0) opened++;
    printf("%ld %s\n", opened, strerrorname_np(errno));
    fflush(stdout);
    pause();
  } else if (strcmp(what, "forks") == 0) {
    long made = 0;
    while (made < 5000) {
      pid_t child = fork();
      if (child < 0) break;
      if (child == 0)
        for (;;)
          if (fork() < 0) pause();
      made++;
    }
    printf("%s\n", made < 5000 ? strerrorname_np(errno) : "ok");
    fflush(stdout);
    pause();
  } else if (strcmp(what, "keep") == 0) {
    long key = syscall(SYS_add_key, "user", "escape", "x", 1L, -4 /* the user's own keyring */);
    int memory = shmget(SHARED_NUMBER, 4096, IPC_CREAT | 0666);
    close(open("/dev/shm/escape", O_CREAT | O_WRONLY, 0666));
    printf("%ld\n", key < 0 || memory < 0 ? -1 : key);
  } else if (strcmp(what, "find") == 0 && argc == 3) {
    char byte;
    say("key", syscall(SYS_keyctl, 11 /* read */, atol(argv[2]), &byte, 1L, 0L));
    say("memory", shmget(SHARED_NUMBER, 4096, 0));
    say("file", open("/dev/shm/escape", O_RDONLY));
  } else if (strcmp(what, "type") == 0 && argc == 3) {
    for (const char *letter = argv[2]; *letter; letter++)
      if (ioctl(0, TIOCSTI, letter)) return say("type", -1), 1;
  } else {
    return 2;
  }
  return 0;
}
