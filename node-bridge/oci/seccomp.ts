/**
 * The system calls of the `hardened` profile: an allow-list, smaller than Docker's default and wholly inside it (a test
 * holds it to that). Names as libseccomp knows them, of x86-64 and arm64; one that an architecture lacks is skipped there.
 *
 * Only the machine's own architecture may be used: 32-bit and x32 entry points kill the process. They double the surface
 * and hardly any image needs them.
 */

export interface ArgumentRule {
  /** Which argument, from 0. */
  readonly index: number
  /** `equal`: argument = value. `none_of`: argument & value = 0. */
  readonly test: "equal" | "none_of"
  readonly value: number
}

/** Allowed when every rule in `when` holds; several entries of one name are alternatives. */
export interface ConditionalCall {
  readonly name: string
  readonly when: readonly ArgumentRule[]
}

export const ALLOWED_GROUPS = {
  // Files by path and by descriptor. What may be reached is a matter of the mounts and of the user namespace.
  files: [
    "access", "chdir", "chmod", "chown", "close", "close_range", "copy_file_range", "creat", "dup", "dup2", "dup3",
    "faccessat", "faccessat2", "fadvise64", "fallocate", "fchdir", "fchmod", "fchmodat", "fchown", "fchownat", "fcntl",
    "fdatasync", "flock", "fstat", "fstatfs", "fsync", "ftruncate", "getcwd", "getdents", "getdents64", "lchown", "link",
    "linkat", "lseek", "lstat", "mkdir", "mkdirat", "newfstatat", "open", "openat", "openat2", "pread64", "preadv", "preadv2",
    "pwrite64", "pwritev", "pwritev2", "read", "readahead", "readlink", "readlinkat", "readv", "rename", "renameat", "renameat2",
    "rmdir", "sendfile", "splice", "stat", "statfs", "statx", "symlink", "symlinkat", "sync", "sync_file_range", "syncfs",
    "truncate", "umask", "unlink", "unlinkat", "utime", "utimensat", "utimes", "write", "writev",
  ],
  // For FIFOs and sockets as files; the kernel refuses device nodes in a user namespace.
  special_files: ["mknod", "mknodat"],
  // Package managers and `cp -a` carry attributes over; in a user namespace only `user.*` can be set.
  attributes: [
    "fgetxattr", "flistxattr", "fremovexattr", "fsetxattr", "getxattr", "lgetxattr", "listxattr", "llistxattr",
    "lremovexattr", "lsetxattr", "removexattr", "setxattr",
  ],
  // Waiting for many things at once. No io_uring: it has its own door past this filter.
  waiting: [
    "epoll_create", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_pwait2", "epoll_wait", "eventfd", "eventfd2",
    "inotify_add_watch", "inotify_init", "inotify_init1", "inotify_rm_watch", "poll", "ppoll", "pselect6", "select",
    "signalfd", "signalfd4", "timerfd_create", "timerfd_gettime", "timerfd_settime",
  ],
  // Memory of the process itself; no userfaultfd, no remap_file_pages, no memfd_secret, nobody else's memory.
  memory: [
    "brk", "madvise", "membarrier", "memfd_create", "mincore", "mlock", "mlock2", "mlockall", "mmap", "mprotect", "mremap",
    "msync", "munlock", "munlockall", "munmap",
  ],
  // Processes and threads. `clone` has a condition of its own below; no ptrace, no kcmp, no setns, no unshare.
  processes: [
    "arch_prctl", "execve", "execveat", "exit", "exit_group", "fork", "futex", "get_robust_list", "getcpu", "getpgid", "getpgrp",
    "getpid", "getppid", "getpriority", "getrlimit", "getrusage", "getsid", "gettid", "pidfd_open", "pidfd_send_signal", "pipe",
    "pipe2", "prctl", "prlimit64", "rseq", "sched_get_priority_max", "sched_get_priority_min", "sched_getaffinity",
    "sched_getparam", "sched_getscheduler", "sched_setaffinity", "sched_setscheduler", "sched_yield", "set_robust_list",
    "set_tid_address", "setpgid", "setpriority", "setrlimit", "setsid", "vfork", "wait4", "waitid",
  ],
  signals: [
    "alarm", "getitimer", "kill", "pause", "restart_syscall", "rt_sigaction", "rt_sigpending", "rt_sigprocmask",
    "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "rt_tgsigqueueinfo", "setitimer", "sigaltstack",
    "tgkill", "tkill",
  ],
  // Reading clocks and sleeping; setting a clock is not here.
  time: [
    "clock_getres", "clock_gettime", "clock_nanosleep", "gettimeofday", "nanosleep", "time", "timer_create", "timer_delete",
    "timer_getoverrun", "timer_gettime", "timer_settime", "times",
  ],
  // Entrypoints that drop privileges, su, sudo without set-user-id, package managers.
  identity: [
    "capget", "capset", "getegid", "geteuid", "getgid", "getgroups", "getresgid", "getresuid", "getuid", "setgid", "setgroups",
    "setregid", "setresgid", "setresuid", "setreuid", "setuid",
  ],
  // `socket` itself has conditions below.
  sockets: [
    "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen", "recvfrom", "recvmmsg",
    "recvmsg", "sendmmsg", "sendmsg", "sendto", "setsockopt", "shutdown", "socketpair",
  ],
  // System V and POSIX objects live in the container's own IPC namespace. PostgreSQL needs shm, others semaphores.
  ipc: [
    "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedsend", "mq_unlink", "msgctl", "msgget", "msgrcv",
    "msgsnd", "semctl", "semget", "semop", "semtimedop", "shmat", "shmctl", "shmdt", "shmget",
  ],
  system: ["getrandom", "ioctl", "sysinfo", "uname"],
  // Programs that lock themselves in further.
  self_confinement: ["seccomp"],
} as const satisfies Record<string, readonly string[]> // prettier-ignore

/** CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET; NEWTIME cannot be asked of `clone`. */
export const CLONE_NEW_FLAGS = 0x7e020000

const AF_UNIX = 1
const AF_INET = 2
const AF_INET6 = 10
const AF_NETLINK = 16
const NETLINK_ROUTE = 0

export const CONDITIONAL_CALLS: readonly ConditionalCall[] = [
  // No namespaces of one's own: a nested user namespace is where most kernel escapes begin.
  { name: "clone", when: [{ index: 0, test: "none_of", value: CLONE_NEW_FLAGS }] },
  // No raw Bluetooth, vsock, AF_ALG, packet … families: old code that nobody in a container needs.
  { name: "socket", when: [{ index: 0, test: "equal", value: AF_UNIX }] },
  { name: "socket", when: [{ index: 0, test: "equal", value: AF_INET }] },
  { name: "socket", when: [{ index: 0, test: "equal", value: AF_INET6 }] },
  // glibc's getaddrinfo and if_nameindex ask rtnetlink which addresses there are.
  { name: "socket", when: [{ index: 0, test: "equal", value: AF_NETLINK }, { index: 2, test: "equal", value: NETLINK_ROUTE }] },
  // PER_LINUX, and asking which it is; others switch address-space hardening off.
  { name: "personality", when: [{ index: 0, test: "equal", value: 0 }] },
  { name: "personality", when: [{ index: 0, test: "equal", value: 0xffffffff }] },
] // prettier-ignore

/** Answered ENOSYS, so that callers fall back: glibc then uses `clone`, whose flags a filter can read; clone3's it cannot. */
export const ABSENT_CALLS = ["clone3"] as const

/**
 * Numbers above this one, of calls newer than this list, are answered ENOSYS as an older kernel would. Anything else that
 * is not allowed is EPERM. The number is the same on every architecture: `futex_waitv`, Linux 5.16.
 */
export const NEWEST_KNOWN_NUMBER = 449

export const EPERM = 1
export const ENOSYS = 38

export const allowedNames = (): string[] => Object.values(ALLOWED_GROUPS).flat()

/** The list as `linux.seccomp` of the OCI runtime specification, for runtimes that compile it themselves. */
export function seccompForRuntime(architecture: "amd64" | "arm64") {
  return {
    defaultAction: "SCMP_ACT_ERRNO",
    defaultErrnoRet: EPERM,
    architectures: [architecture === "amd64" ? "SCMP_ARCH_X86_64" : "SCMP_ARCH_AARCH64"],
    syscalls: [
      { names: allowedNames(), action: "SCMP_ACT_ALLOW" },
      ...CONDITIONAL_CALLS.map(({ name, when }) => ({
        names: [name],
        action: "SCMP_ACT_ALLOW",
        args: when.map(({ index, test, value }) =>
          test === "equal" ? { index, value, op: "SCMP_CMP_EQ" } : { index, value, valueTwo: 0, op: "SCMP_CMP_MASKED_EQ" },
        ),
      })),
      { names: [...ABSENT_CALLS], action: "SCMP_ACT_ERRNO", errnoRet: ENOSYS },
    ],
  } as const
}
