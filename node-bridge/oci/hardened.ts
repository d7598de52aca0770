/**
 * The `hardened` profile as data: what every container gets, whatever it asks for. `spec.ts` adds what differs from one run
 * to the next, and `isolation/verdict.ts` compares a live process with this same file.
 */
import type { OciMount, OciNamespace } from "./spec-types.ts"

/** Every one of its own; `network` and (where a pinned one is used) `user` are joined by path. */
export const NAMESPACES = ["pid", "network", "ipc", "uts", "mount", "cgroup", "user"] as const satisfies OciNamespace["type"][]

/**
 * Hidden behind an empty file or directory. Docker's list; then what tells a tenant of the machine or of its neighbours:
 * timers and interrupts (side channels), slab and zone counts, the kernel's symbols, configuration and modules, swap,
 * disks, and pressure figures of the whole host. The user namespace closes most of them too; this holds without it.
 */
export const MASKED_PATHS = [
  "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
  "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
  "/proc/buddyinfo", "/proc/config.gz", "/proc/diskstats", "/proc/kallsyms", "/proc/key-users", "/proc/kmsg",
  "/proc/kpagecgroup", "/proc/kpagecount", "/proc/kpageflags", "/proc/modules", "/proc/pagetypeinfo", "/proc/pressure",
  "/proc/schedstat", "/proc/slabinfo", "/proc/softirqs", "/proc/swaps", "/proc/vmallocinfo", "/proc/zoneinfo",
  "/sys/kernel",
] as const // prettier-ignore

/** Docker's list: files there change the kernel for everybody. */
export const READ_ONLY_PATHS = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"] as const

const SHM_BYTES = 64 * 1024 * 1024 // Docker's default; charged to the container's memory

export const BASE_MOUNTS: readonly OciMount[] = [
  { destination: "/proc", type: "proc", source: "proc", options: ["nosuid", "noexec", "nodev"] },
  {
    destination: "/dev",
    type: "tmpfs",
    source: "tmpfs",
    options: ["nosuid", "noexec", "strictatime", "mode=755", "size=65536k"],
  },
  {
    destination: "/dev/pts",
    type: "devpts",
    source: "devpts",
    options: ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
  },
  {
    destination: "/dev/shm",
    type: "tmpfs",
    source: "shm",
    options: ["nosuid", "noexec", "nodev", "mode=1777", `size=${SHM_BYTES}`],
  },
  { destination: "/dev/mqueue", type: "mqueue", source: "mqueue", options: ["nosuid", "noexec", "nodev"] },
]

/** Under a kernel of the container's own: what it knows of the above, each served from inside it. */
export const SANDBOX_MOUNTS: readonly OciMount[] = [
  ...BASE_MOUNTS.filter(({ type }) => type !== "mqueue"),
  { destination: "/sys", type: "sysfs", source: "sysfs", options: ["ro", "nosuid", "noexec", "nodev"] },
]

/** With a read-only root, programs still need somewhere to put a pid file. Charged to the container's memory. */
export const WRITABLE_MOUNTS: readonly OciMount[] = ["/tmp", "/run"].map((destination) => ({
  destination,
  type: "tmpfs",
  source: "tmpfs",
  options: ["nosuid", "nodev", destination === "/tmp" ? "mode=1777" : "mode=755"],
}))

/** Bound over the image's own; the bridge writes them, the container reads them. */
export const ETC_FILES = ["hosts", "hostname", "resolv.conf"] as const

/** Above every process of the platform: when the machine is out of memory, containers go first. */
export const OOM_SCORE_ADJ = 500

/** Where every run's cgroup is, in each hierarchy. */
export const CGROUP_PARENT = "/berth"
