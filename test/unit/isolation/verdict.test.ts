import { expect, test } from "vitest"
import {
  capabilityNames,
  parseCgroupPaths,
  parseIdMap,
  parseMountinfo,
  parseStatus,
} from "../../../node-bridge/isolation/proc-text.ts"
import { deviationsOf } from "../../../node-bridge/isolation/verdict.ts"
import type { Expected, Reading } from "../../../node-bridge/isolation/verdict.ts"
import { CAPABILITIES, NAMESPACES } from "../../../node-bridge/oci/hardened.ts"
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
    disk_bytes: null,
    open_files: 1024,
    io: {},
    cgroup_version: "2",
  },
  devices: [],
  network: {
    mode: "nat",
    interfaces: ["eth0", "lo"],
    egress: "open",
    egress_bytes_per_second: null,
    ingress_bytes_per_second: null,
    rules: [],
  },
  ...changes,
})
const expected: Expected = {
  idRange: { hostBase: BASE, size: 65_536 },
  limits: { cpus: 1, memory_bytes: 8192, pids: 5 },
  egress: "open",
  readOnly: false,
  filterSha256: "f",
  existingPaths: new Set(["/proc/kcore", "/proc/sys"]),
  inOwnCgroup: true,
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
  ["swap", { limits: { ...read.limits, memory_swap_bytes: 9000 } }, {}, "swap may be used"],
  ["an interface", { network: { ...read.network, interfaces: ["lo", "docker0"] } }, {}, "the interface docker0 is seen"],
  ["a network that was not to be", {}, { egress: "none" }, "the interface eth0 is seen"],
  ["the wrong cgroup", {}, { inOwnCgroup: false }, "the process is not in its own cgroup"],
])("%s is a deviation", (_what, changes, promised, sentence) => {
  expect(deviationsOf(aReading(changes), { ...expected, ...promised }).join("; ")).toContain(sentence)
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
