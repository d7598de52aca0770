/**
 * The system calls of the `hardened` profile: an allow-list, smaller than Docker's default and wholly inside it (a test
 * holds it to that). Names as libseccomp knows them, of x86-64 and arm64; one that an architecture lacks is skipped there.
 *
 * Only the machine's own architecture may be used: a 32-bit entry point kills the process, and there are no x32 numbers.
 * They double the surface and hardly any image needs them.
 */

export interface ArgumentRule {
  /** Which argument, from 0. */
  readonly index: number
  /** `equal`: argument = value. `above`: argument > value, unsigned. `none_of`: argument & value = 0. */
  readonly test: "equal" | "above" | "none_of"
  readonly value: number
}

/** Allowed when every rule in `when` holds; several entries of one name are alternatives. */
export interface ConditionalCall {
  readonly name: string
  readonly when: readonly ArgumentRule[]
}

export const ALLOWED_GROUPS = {
  // Files by path and by descriptor. What may be reached is a matter of the mounts and of the user namespace. No sync and
  // syncfs: they write back what every tenant has in memory. `fadvise64` has conditions below.
  files: [
    "access", "chdir", "chmod", "chown", "close", "creat", "dup", "dup2", "dup3", "faccessat", "fallocate", "fchdir", "fchmod",
    "fchmodat", "fchown", "fchownat", "fcntl", "fdatasync", "flock", "fstat", "fstatfs", "fsync", "ftruncate", "getcwd",
    "getdents64", "lchown", "link", "linkat", "lseek", "lstat", "mkdir", "mkdirat", "newfstatat", "open", "openat", "pread64",
    "preadv", "pwrite64", "pwritev", "read", "readlink", "readlinkat", "readv", "rename", "renameat", "renameat2", "rmdir",
    "sendfile", "splice", "stat", "statfs", "statx", "symlink", "symlinkat", "sync_file_range", "truncate", "umask", "unlink",
    "unlinkat", "utimensat", "utimes", "write", "writev",
  ],
  // `ls` asks for the security label, Python for the names before it copies a file; none can be set.
  attributes: ["lgetxattr", "listxattr", "llistxattr"],
  // For FIFOs and sockets as files; the kernel refuses device nodes in a user namespace.
  special_files: ["mknod", "mknodat"],
  // Waiting for many things at once. No io_uring: it has its own door past this filter.
  waiting: [
    "epoll_create", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_wait", "eventfd2", "inotify_add_watch", "inotify_init",
    "inotify_init1", "inotify_rm_watch", "poll", "ppoll", "pselect6", "select", "signalfd4", "timerfd_create",
    "timerfd_settime",
  ],
  // Memory of the process itself; no userfaultfd, no remap_file_pages, no memfd_secret, nobody else's memory. No mincore:
  // tenants share an image's pages, and it tells which of them are in use.
  memory: ["brk", "madvise", "memfd_create", "mmap", "mprotect", "mremap", "msync", "munmap"],
  // Processes and threads. `clone` has a condition of its own below; no ptrace, no kcmp, no setns, no unshare.
  processes: [
    "arch_prctl", "execve", "exit", "exit_group", "fork", "futex", "getpgid", "getpgrp", "getpid", "getppid", "getpriority",
    "getrlimit", "getrusage", "gettid", "pipe", "pipe2", "prctl", "prlimit64", "sched_getaffinity", "sched_getparam",
    "sched_getscheduler", "sched_setaffinity", "sched_yield", "set_robust_list", "set_tid_address", "setpgid", "setpriority",
    "setrlimit", "setsid", "vfork", "wait4", "waitid",
  ],
  signals: [
    "alarm", "kill", "pause", "restart_syscall", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigsuspend",
    "rt_sigtimedwait", "setitimer", "sigaltstack", "tgkill", "tkill",
  ],
  // Reading clocks and sleeping; setting a clock is not here.
  time: [
    "clock_getres", "clock_gettime", "clock_nanosleep", "gettimeofday", "nanosleep", "timer_create", "timer_delete",
    "timer_settime", "times",
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
  // System V objects live in the container's own IPC namespace. PostgreSQL needs shared memory, others semaphores.
  ipc: ["semctl", "semget", "semop", "semtimedop", "shmat", "shmctl", "shmdt", "shmget"],
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

/** NORMAL, RANDOM, SEQUENTIAL, WILLNEED of posix_fadvise(2). */
const HARMLESS_ADVICE = [0, 1, 2, 3]

export const CONDITIONAL_CALLS: readonly ConditionalCall[] = [
  // No namespaces of one's own: a nested user namespace is where most kernel escapes begin.
  { name: "clone", when: [{ index: 0, test: "none_of", value: CLONE_NEW_FLAGS }] },
  // No raw Bluetooth, vsock, AF_ALG, packet … families: old code that nobody in a container needs.
  { name: "socket", when: [{ index: 0, test: "equal", value: AF_UNIX }] },
  { name: "socket", when: [{ index: 0, test: "equal", value: AF_INET }] },
  { name: "socket", when: [{ index: 0, test: "equal", value: AF_INET6 }] },
  // glibc's getaddrinfo and if_nameindex ask rtnetlink which addresses there are.
  { name: "socket", when: [{ index: 0, test: "equal", value: AF_NETLINK }, { index: 2, test: "equal", value: NETLINK_ROUTE }] },
  // Not DONTNEED, which takes a page of a shared image out of the neighbours' memory: who reads it again can be timed.
  ...HARMLESS_ADVICE.map((value) => ({ name: "fadvise64", when: [{ index: 3, test: "equal" as const, value }] })),
] // prettier-ignore

export const EPERM = 1
export const ENOSYS = 38
const EPROTONOSUPPORT = 93
const EAFNOSUPPORT = 97

/**
 * Arguments that are answered as a kernel without such a family or protocol would: useradd, groupmod and their like go on then
 * without an audit socket, and give up at EPERM. They are all that no entry for `socket` above lets pass.
 */
export const REFUSED_ARGUMENTS: readonly (ConditionalCall & { readonly errno: number })[] = [
  ...Array.from({ length: AF_NETLINK }, (_, family) => family)
    .filter((family) => ![AF_UNIX, AF_INET, AF_INET6].includes(family))
    .map((value) => ({ name: "socket", when: [{ index: 0, test: "equal" as const, value }], errno: EAFNOSUPPORT })),
  { name: "socket", when: [{ index: 0, test: "above", value: AF_NETLINK }], errno: EAFNOSUPPORT },
  {
    name: "socket",
    when: [
      { index: 0, test: "equal", value: AF_NETLINK },
      { index: 2, test: "above", value: NETLINK_ROUTE },
    ],
    errno: EPROTONOSUPPORT,
  },
]

/**
 * Answered ENOSYS, as an older kernel or one built without them would: callers then have another way. The rest of what is not
 * allowed is EPERM.
 *
 * clone3: its flags are where no filter can look, and glibc then uses `clone`. preadv2 tells which pages of a shared file are in
 * memory. membarrier interrupts every processor. Where file systems have no attributes, cp and tar leave them out and libacl
 * makes do with the mode.
 */
export const ABSENT_CALLS = [
  "clone3", "close_range", "copy_file_range", "epoll_pwait2", "execveat", "faccessat2", "fgetxattr", "flistxattr",
  "fremovexattr", "fsetxattr", "getxattr", "io_uring_setup", "lremovexattr", "lsetxattr", "membarrier", "mlock2",
  "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedsend", "mq_unlink", "openat2", "pidfd_open",
  "pidfd_send_signal", "preadv2", "pwritev2", "removexattr", "rseq", "setxattr",
] as const // prettier-ignore

/**
 * Numbers above this one, of calls newer than this list, are answered ENOSYS as an older kernel would. Anything else that
 * is not allowed is EPERM. The number is the same on every architecture: `futex_waitv`, Linux 5.16.
 */
export const NEWEST_KNOWN_NUMBER = 449

export const allowedNames = (): string[] => Object.values(ALLOWED_GROUPS).flat()

export interface Rules {
  readonly plain: readonly string[]
  readonly conditional: readonly ConditionalCall[]
  readonly refusedArguments: typeof REFUSED_ARGUMENTS
  readonly absent: readonly string[]
}

/** The list without what a tenant gives up as well. Nothing can be added to it. */
export function narrowed(deny: readonly string[]): Rules {
  const denied = new Set(deny)
  return {
    plain: allowedNames().filter((name) => !denied.has(name)),
    conditional: CONDITIONAL_CALLS.filter(({ name }) => !denied.has(name)),
    refusedArguments: REFUSED_ARGUMENTS.filter(({ name }) => !denied.has(name)),
    absent: ABSENT_CALLS,
  }
}

const OPERATOR = { equal: "SCMP_CMP_EQ", above: "SCMP_CMP_GT", none_of: "SCMP_CMP_MASKED_EQ" } as const

const argsOf = (when: readonly ArgumentRule[]) =>
  when.map(({ index, test, value }) => ({ index, value, op: OPERATOR[test], ...(test === "none_of" ? { valueTwo: 0 } : {}) }))

/** The list as `linux.seccomp` of the OCI runtime specification, for runtimes that compile it themselves. */
export function seccompForRuntime(architecture: "amd64" | "arm64", deny: readonly string[]) {
  const { plain, conditional, refusedArguments, absent } = narrowed(deny)
  return {
    defaultAction: "SCMP_ACT_ERRNO",
    defaultErrnoRet: EPERM,
    architectures: [architecture === "amd64" ? "SCMP_ARCH_X86_64" : "SCMP_ARCH_AARCH64"],
    syscalls: [
      { names: plain, action: "SCMP_ACT_ALLOW" },
      ...conditional.map(({ name, when }) => ({ names: [name], action: "SCMP_ACT_ALLOW", args: argsOf(when) })),
      ...refusedArguments.map(({ name, when, errno }) => ({
        names: [name],
        action: "SCMP_ACT_ERRNO",
        errnoRet: errno,
        args: argsOf(when),
      })),
      { names: absent, action: "SCMP_ACT_ERRNO", errnoRet: ENOSYS },
    ],
  } as const
}
