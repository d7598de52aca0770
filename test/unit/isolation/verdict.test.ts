import { expect, test } from "vitest"
import {
  accessTo,
  capabilityNames,
  deviceNumber,
  parseCgroupPaths,
  parseDeviceRules,
  parseIdMap,
  parseMountinfo,
  parseOpenFiles,
  parseStatus,
} from "../../../node-bridge/isolation/proc-text.ts"
import { promiseOf } from "../../../node-bridge/isolation/promise.ts"
import { diskIoWrites, readDiskIo } from "../../../node-bridge/runtime/cgroup-io.ts"
import { deviationsOf } from "../../../node-bridge/isolation/verdict.ts"
import type { Expected, Reading } from "../../../node-bridge/isolation/verdict.ts"
import { CAPABILITIES } from "../../../schema/container.ts"
import { NAMESPACES } from "../../../node-bridge/oci/hardened.ts"
import { anId } from "../../support/assignments.ts"

const BASE = 1_879_048_192
const map = [{ inside: 0, outside: BASE, count: 65_536 }]
const mount = (target: string, options: string[], type = "tmpfs") => ({ target, type, options })

const aReading = (changes: Partial<Reading> = {}): Reading => ({
  run_id: anId("run"),
  read_at: "2026-01-01T00:00:00Z",
  profile: "hardened",
  runtime: { name: "crun", version: "1" },
  versions: { crun: "1" },
  namespaces: Object.fromEntries(NAMESPACES.map((name) => [name, { inode: 1, shared_with: "nobody" as const }])),
  user: { uid_map: map, gid_map: map, runs_as_uid_inside: 0, root_is_host_root: false },
  capabilities: {
    effective: [...CAPABILITIES],
    permitted: [...CAPABILITIES],
    bounding: [...CAPABILITIES],
    inheritable: [],
    ambient: [],
  },
  no_new_privileges: true,
  seccomp: { mode: "filter", filters: 1, sha256: "f" },
  mounts: [
    mount("/", ["rw", "nosuid", "nodev"], "overlay"),
    mount("/proc", ["rw", "nosuid", "nodev", "noexec"], "proc"),
    mount("/dev", ["rw", "nosuid"]),
    mount("/sys", ["ro", "nosuid", "nodev", "noexec"], "sysfs"),
    mount("/sys/fs/cgroup", ["ro", "nosuid"], "cgroup2"),
    ...["hosts", "hostname", "resolv.conf"].map((name) => mount(`/etc/${name}`, ["ro", "nosuid", "nodev"], "ext4")),
  ],
  masked_paths: ["/proc/kcore"],
  read_only_paths: ["/proc/sys"],
  limits: {
    cpus: 1,
    memory_bytes: 8192,
    memory_swap_bytes: 8192,
    pids: 5,
    processors: [0, 2],
    disk_bytes: 990_000,
    open_files: 1024,
    io: { weight: 200 },
    cgroup_version: "2",
  },
  devices: [
    { path: "/dev/null", type: "c", major: 1, minor: 3, access: "rwm" },
    { path: "/dev/kvm", type: "c", major: 10, minor: 232, access: "rw" },
  ],
  network: {
    mode: "nat",
    interfaces: ["eth0", "lo"],
    egress: "open",
    egress_bytes_per_second: null,
    ingress_bytes_per_second: 5000,
    rules: [],
  },
  ...changes,
})
const expected: Expected = {
  promise: promiseOf("hardened"),
  idRange: { hostBase: BASE, size: 65_536 },
  capabilities: [...CAPABILITIES],
  limits: {
    cpus: 1,
    memory_bytes: 8192,
    pids: 5,
    processors: [0, 2, 3],
    disk_bytes: 1_000_000,
    open_files: 1024,
    io: { weight: 200 },
  },
  network: { egress: "open", ingress_bytes_per_second: 5000 },
  networkDescribed: true,
  readOnly: false,
  filterSha256: "f",
  existingPaths: new Set(["/proc/kcore", "/proc/sys"]),
  inOwnCgroup: true,
  sharedWithOthers: [],
  devices: { "/dev/kvm": "c 10:232" },
  mounts: [],
  companions: [],
}

test("a reading that holds has no deviation", () => {
  expect(deviationsOf(aReading(), expected)).toEqual([])
})

const read = aReading()
test.each<[string, Partial<Reading>, Partial<Expected>, string]>([
  [
    "a namespace of the host's",
    { namespaces: { ...read.namespaces, pid: { inode: 1, shared_with: "host" as const } } },
    {},
    "the pid namespace is the host's",
  ],
  [
    "another's ids",
    { user: { ...read.user, uid_map: [{ inside: 0, outside: 5, count: 65_536 }] } },
    {},
    "user ids are not mapped",
  ],
  [
    "a second mapping",
    { user: { ...read.user, gid_map: [...map, { inside: 70_000, outside: 0, count: 1 }] } },
    {},
    "group ids are not mapped",
  ],
  ["the host's root", { user: { ...read.user, root_is_host_root: true } }, {}, "the container's root is the host's root"],
  [
    "a capability too many",
    { capabilities: { ...read.capabilities, bounding: ["CAP_SYS_ADMIN"] } },
    {},
    "CAP_SYS_ADMIN is in the bounding set",
  ],
  [
    "an ambient capability",
    { capabilities: { ...read.capabilities, ambient: ["CAP_CHOWN"] } },
    {},
    "CAP_CHOWN is in the ambient set",
  ],
  ["new privileges", { no_new_privileges: false }, {}, "new privileges can be gained"],
  ["no filter", { seccomp: { mode: "none", filters: 0, sha256: null } }, {}, "no system call filter is in force"],
  ["another filter", { seccomp: { mode: "filter", filters: 1, sha256: "g" } }, {}, "the system call filter is not the profile's"],
  ["an open path", { masked_paths: [] }, {}, "/proc/kcore is not masked"],
  ["a writable path", { read_only_paths: [] }, {}, "/proc/sys is not read-only"],
  ["a mount too many", { mounts: [...read.mounts, mount("/host", ["rw"])] }, {}, "/host is mounted and should not be"],
  [
    "a weaker mount",
    { mounts: read.mounts.map((each) => (each.target === "/" ? mount("/", ["rw", "nosuid"]) : each)) },
    {},
    "/ is not mounted nodev",
  ],
  [
    "a writable cgroup",
    { mounts: [...read.mounts, mount("/sys/fs/cgroup/pids", ["rw"], "cgroup")] },
    {},
    "/sys/fs/cgroup/pids is writable",
  ],
  ["a larger limit", { limits: { ...read.limits, memory_bytes: 16_384 } }, {}, "the memory limit is 16384, not 8192"],
  ["no limit", { limits: { ...read.limits, cpus: null } }, {}, "the processor limit is off, not 1"],
  ["a processor too many", { limits: { ...read.limits, processors: [0, 1] } }, {}, "the processors 1 may be used"],
  ["swap", { limits: { ...read.limits, memory_swap_bytes: 9000 } }, {}, "swap may be used"],
  ["an interface", { network: { ...read.network, interfaces: ["lo", "docker0"] } }, {}, "the interface docker0 is seen"],
  ["a network that was not to be", {}, { network: { egress: "none" } }, "the interface eth0 is seen"],
  ["an open network", {}, { network: { egress: ["10.0.0.0/8"] } }, "outbound traffic is open, not 10.0.0.0/8"],
  ["a rate taken off", { network: { ...read.network, ingress_bytes_per_second: null } }, {}, "the ingress rate is off, not 5000"],
  ["a rate too many", { network: { ...read.network, egress_bytes_per_second: 7 } }, {}, "the egress rate is 7, not off"],
  ["a capability that this run was not given", {}, { capabilities: [] }, "CAP_CHOWN is in the effective set"],
  ["another tenant in its namespace", {}, { sharedWithOthers: ["ipc"] }, "the ipc namespace is shared with another tenant"],
  ["no disk of its own", { limits: { ...read.limits, disk_bytes: 2_000_000 } }, {}, "the disk limit is 2000000, not 1000000"],
  ["more open files", { limits: { ...read.limits, open_files: null } }, {}, "the limit of open files is off, not 1024"],
  ["a disk weight", { limits: { ...read.limits, io: {} } }, {}, "the disk weight is 100, not 200"],
  [
    "a disk limit taken off",
    {},
    { limits: { ...expected.limits, io: { weight: 200, read_bytes_per_second: 9 } } },
    "the limit of bytes read a second is off, not 9",
  ],
  [
    "a device that was not granted",
    { devices: [{ path: "/dev/fuse", type: "c", major: 10, minor: 229, access: "" }] },
    {},
    "/dev/fuse is a device and was not granted",
  ],
  [
    "a granted name for another device",
    { devices: [{ path: "/dev/kvm", type: "c", major: 1, minor: 1, access: "rw" }] },
    {},
    "/dev/kvm is another device: c 1:1",
  ],
  [
    "a standard name for another device",
    { devices: [{ path: "/dev/null", type: "b", major: 8, minor: 0, access: "rw" }] },
    {},
    "/dev/null is another device: b 8:0",
  ],
  ["a stranger in its cgroup", {}, { companions: ["a process is strange"] }, "a process is strange"],
  ["the wrong cgroup", {}, { inOwnCgroup: false }, "the process is not in its own cgroup"],
])("%s is a deviation", (_what, changes, promised, sentence) => {
  expect(deviationsOf(aReading(changes), { ...expected, ...promised }).join("; ")).toContain(sentence)
})

test("stricter than promised is no deviation, and what was not looked at is none", () => {
  const none = { effective: [], permitted: [], bounding: [], inheritable: [], ambient: [] }
  const strict = aReading({
    capabilities: none,
    limits: { ...read.limits, open_files: 20 },
    seccomp: { ...read.seccomp, sha256: null },
  })
  expect(deviationsOf(strict, expected)).toEqual([])
  const unread = aReading({ network: { ...read.network, egress: "none", ingress_bytes_per_second: null } })
  expect(deviationsOf(unread, { ...expected, networkDescribed: false })).toEqual([])
})

const SENTRY = ["CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE"]
const aSentry = (changes: Partial<Reading> = {}): Reading =>
  aReading({
    profile: "sandboxed",
    namespaces: { ...read.namespaces, pid: { inode: 1, shared_with: "host" }, cgroup: { inode: 1, shared_with: "host" } },
    user: {
      uid_map: [{ inside: 65_534, outside: 65_534, count: 1 }],
      gid_map: [{ inside: 65_534, outside: 65_534, count: 1 }],
      runs_as_uid_inside: 65_534,
      root_is_host_root: false,
    },
    capabilities: { effective: SENTRY, permitted: SENTRY, inheritable: SENTRY, ambient: SENTRY, bounding: ["CAP_MKNOD"] },
    mounts: [mount("/", ["ro"])],
    devices: [],
    network: { ...read.network, mode: "loopback", interfaces: ["lo"], egress: "none", ingress_bytes_per_second: null },
    ...changes,
  })
const ofSentry: Expected = { ...expected, promise: promiseOf("sandboxed"), network: { egress: "none" }, devices: {} }

test("the sentry of a sandboxed run is held to its own promise", () => {
  expect(deviationsOf(aSentry(), ofSentry)).toEqual([])
  expect(deviationsOf(aSentry({ mounts: [mount("/", ["rw"])] }), ofSentry)).toEqual(["/ is not mounted ro"])
  expect(deviationsOf(aSentry({ mounts: [mount("/", ["ro"]), mount("/host", ["ro"])] }), ofSentry)).toHaveLength(1)
  expect(deviationsOf(aSentry({ user: read.user }), ofSentry)).toEqual([
    "user ids are not mapped to nobody's id alone",
    "group ids are not mapped to nobody's id alone",
  ])
  expect(
    deviationsOf(aSentry({ namespaces: { ...read.namespaces, network: { inode: 1, shared_with: "host" } } }), ofSentry),
  ).toEqual(["the network namespace is the host's"])
  expect(deviationsOf(aSentry({ devices: read.devices }), ofSentry)).toHaveLength(2)
})

test("a device's access is what the rules of its cgroup add up to", () => {
  const rules = parseDeviceRules("c 1:3 rw\nc *:* m\nb 8:0 r\n")
  expect(accessTo(rules, { type: "c", major: 1, minor: 3 })).toBe("rwm")
  expect(accessTo(rules, { type: "b", major: 8, minor: 0 })).toBe("r")
  expect(accessTo(rules, { type: "b", major: 8, minor: 1 })).toBe("")
  expect(accessTo(parseDeviceRules("a *:* rwm"), { type: "b", major: 8, minor: 1 })).toBe("rwm")
  expect(deviceNumber(0x103)).toEqual({ major: 1, minor: 3 })
  expect(deviceNumber(((0x12345 << 8) >>> 0) & 0xfff00)).toEqual({ major: 0x345, minor: 0 })
  expect(parseOpenFiles("Max open files            1024                 4096                 files\n")).toBe(4096)
})

test("disk limits are written in the words of either cgroup version", () => {
  const io = { read_bytes_per_second: 5, write_operations_per_second: 7, weight: 300 }
  expect(diskIoWrites(1, io, ["8:0", "7:1"])).toEqual([
    ["blkio.throttle.read_bps_device", "8:0 5"],
    ["blkio.throttle.write_iops_device", "8:0 7"],
    ["blkio.throttle.read_bps_device", "7:1 5"],
    ["blkio.throttle.write_iops_device", "7:1 7"],
    ["blkio.bfq.weight", "300"],
  ])
  expect(diskIoWrites(2, io, ["8:0"])).toEqual([
    ["io.max", "8:0 rbps=5 wiops=7"],
    ["io.bfq.weight", "300"],
  ])
  expect(diskIoWrites(1, {}, ["8:0"])).toEqual([])
})

test("disk limits are read in the words of either cgroup version", () => {
  const v1: Record<string, string> = {
    "blkio.throttle.read_bps_device": "254:0 2000\n254:16 1000",
    "blkio.throttle.write_iops_device": "254:0 7",
    "blkio.throttle.write_bps_device": "",
    "blkio.bfq.weight": "100",
  }
  expect(readDiskIo(1, (file) => v1[file] ?? null)).toEqual({ read_bytes_per_second: 1000, write_operations_per_second: 7 })
  const v2: Record<string, string> = { "io.max": "8:0 rbps=max wbps=50 riops=max wiops=max\n", "io.weight": "default 300\n" }
  expect(readDiskIo(2, (file) => v2[file] ?? null)).toEqual({ write_bytes_per_second: 50, weight: 300 })
})

test("the kernel's texts are read as they are", () => {
  expect(parseIdMap("         0 1879048192      65536\n")).toEqual(map)
  expect(capabilityNames(0x200000n | 1n)).toEqual(["CAP_CHOWN", "CAP_SYS_ADMIN"])
  expect(parseStatus("Uid:\t1\t2\t3\t4\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\nCapEff:\t0000000000000001\n")).toMatchObject({
    effectiveUid: 2, noNewPrivileges: true, seccomp: "filter", seccompFilters: 1, capabilities: { effective: ["CAP_CHOWN"] },
  }) // prettier-ignore
  expect(parseMountinfo("95 68 0:39 / /a\\040b rw,nodev master:1 - overlay overlay rw\n")).toEqual([
    { target: "/a b", type: "overlay", root: "/", options: ["rw", "nodev"] },
  ])
  expect(parseCgroupPaths("3:cpu,cpuacct:/berth/x\n0::/a:b\n")).toEqual(
    new Map([["cpu", "/berth/x"], ["cpuacct", "/berth/x"], ["", "/a:b"]]), // prettier-ignore
  )
})
