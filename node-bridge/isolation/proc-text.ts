/** Reads the kernel's text files about a process: proc(5), user_namespaces(7), capabilities(7). Pure. */
import { unescapeMount } from "../runtime/cgroup-layout.ts"

export interface IdMapLine {
  readonly inside: number
  readonly outside: number
  readonly count: number
}

export function parseIdMap(text: string): IdMapLine[] {
  return text
    .split("\n")
    .map((line) => line.trim().split(/\s+/).map(Number))
    .flatMap(([inside, outside, count]) =>
      inside === undefined || outside === undefined || count === undefined ? [] : [{ inside, outside, count }],
    )
}

export interface StatusFields {
  readonly effectiveUid: number
  readonly noNewPrivileges: boolean
  readonly seccomp: "none" | "strict" | "filter"
  readonly seccompFilters: number
  readonly capabilities: Readonly<Record<"effective" | "permitted" | "inheritable" | "bounding" | "ambient", string[]>>
}

export function parseStatus(text: string): StatusFields {
  const fields = new Map(
    text.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).trim()]),
  )
  const field = (name: string) => fields.get(name) ?? ""
  const capabilities = (name: string) => capabilityNames(BigInt(`0x${field(name) || "0"}`))
  const mode = field("Seccomp")
  return {
    effectiveUid: Number(field("Uid").split(/\s+/)[1]),
    noNewPrivileges: field("NoNewPrivs") === "1",
    seccomp: mode === "2" ? "filter" : mode === "1" ? "strict" : "none",
    seccompFilters: Number(field("Seccomp_filters") || 0),
    capabilities: {
      effective: capabilities("CapEff"),
      permitted: capabilities("CapPrm"),
      inheritable: capabilities("CapInh"),
      bounding: capabilities("CapBnd"),
      ambient: capabilities("CapAmb"),
    },
  }
}

/** By number, linux/capability.h. */
const CAPABILITY_NAMES = [
  "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE",
  "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT",
  "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE",
  "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ",
  "PERFMON", "BPF", "CHECKPOINT_RESTORE",
] // prettier-ignore

export function capabilityNames(mask: bigint): string[] {
  const names: string[] = []
  for (let bit = 0; mask >> BigInt(bit) !== 0n; bit++) {
    if ((mask >> BigInt(bit)) & 1n) names.push(`CAP_${CAPABILITY_NAMES[bit] ?? bit}`)
  }
  return names.sort()
}

export interface MountLine {
  readonly target: string
  readonly type: string
  /** Which part of its file system is mounted. */
  readonly root: string
  readonly options: string[]
}

export function parseMountinfo(text: string): MountLine[] {
  return text.split("\n").flatMap((line) => {
    const [left = "", right = ""] = line.split(" - ", 2)
    const [, , , root, target, options] = left.split(" ")
    if (root === undefined || target === undefined || options === undefined) return []
    return [
      { target: unescapeMount(target), type: right.split(" ")[0] ?? "", root: unescapeMount(root), options: options.split(",") },
    ]
  })
}

/** The names in /proc/PID/net/dev, whose first two lines are headings. */
export function parseInterfaces(text: string): string[] {
  return text
    .split("\n")
    .slice(2)
    .map((line) => (line.split(":")[0] ?? "").trim())
    .filter((name) => name !== "")
    .sort()
}

/** The cgroup path of each hierarchy of /proc/PID/cgroup, by its controllers; v2 has the empty name. */
export function parseCgroupPaths(text: string): Map<string, string> {
  const paths = new Map<string, string>()
  for (const line of text.split("\n")) {
    const [, controllers, ...path] = line.split(":")
    if (controllers === undefined || path.length === 0) continue
    for (const controller of controllers.split(",")) paths.set(controller, path.join(":"))
  }
  return paths
}

/** The hard bound of open files in /proc/PID/limits, which the process can only lower; null for none. */
export function parseOpenFiles(text: string): number | null {
  const hard = /^Max open files\s+\S+\s+(\S+)/m.exec(text)?.[1]
  return hard === undefined || hard === "unlimited" ? null : Number(hard)
}

export interface DeviceRule {
  readonly type: "a" | "b" | "c"
  /** null: every one. */
  readonly major: number | null
  readonly minor: number | null
  readonly access: string
}

/** `devices.list` of a v1 cgroup: what its processes may use. */
export function parseDeviceRules(text: string): DeviceRule[] {
  return [...text.matchAll(/^([abc]) (\d+|\*):(\d+|\*) ([rwm]+)$/gm)].flatMap(([, type, major, minor, access]) =>
    (type === "a" || type === "b" || type === "c") && access !== undefined
      ? [{ type, major: major === "*" ? null : Number(major), minor: minor === "*" ? null : Number(minor), access }]
      : [],
  )
}

/** What the rules let a process do with one device, in the order `rwm`. */
export function accessTo(rules: readonly DeviceRule[], device: { type: string; major: number; minor: number }): string {
  const granted = rules
    .filter(({ type }) => type === "a" || type === device.type)
    .filter(({ major, minor }) => (major ?? device.major) === device.major && (minor ?? device.minor) === device.minor)
    .flatMap(({ access }) => [...access])
  return [..."rwm"].filter((letter) => granted.includes(letter)).join("")
}

/** A device number as stat(2) gives it, taken apart as `gnu_dev_major` and `gnu_dev_minor` do. */
export function deviceNumber(rdev: number): { readonly major: number; readonly minor: number } {
  const wide = BigInt(rdev)
  return {
    major: Number(((wide >> 8n) & 0xfffn) | ((wide >> 32n) & ~0xfffn)),
    minor: Number((wide & 0xffn) | ((wide >> 12n) & ~0xffn & 0xffffffffn)),
  }
}
