/**
 * Known escapes, tried twice: against a container of our own controller (a `HostBench`), and as a counter-proof against the
 * same `config.json` with named fences taken away, which a runtime runs by itself from a bundle that is thrown away. The
 * product writes that file both times, so a fence that nobody needs shows as one.
 *
 * What an escape aims at is the test's own: a file in the bench's directory, a process or socket of the test.
 */
import { execFileSync, spawn, spawnSync } from "node:child_process"
import type { ChildProcess } from "node:child_process"
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { cgroupPathOf, composeSpec } from "../../node-bridge/oci/spec.ts"
import type { OciSpec } from "../../node-bridge/oci/spec-types.ts"
import { parseCgroupLayout } from "../../node-bridge/runtime/cgroup-layout.ts"
import { SeccompFilters } from "../../node-bridge/runtime/seccomp-filters.ts"
import { anAssignment } from "./assignments.ts"
import type { SpecChanges } from "./assignments.ts"
import { makeBusyboxRoot } from "./busybox-image.ts"

export type BareRuntime = "crun" | "runc"

type Mutable<T> = { -readonly [K in keyof T]: T[K] }

/** A spec of which parts were taken away: what a product must never write may stand in it. */
export interface LooseSpec extends Mutable<Omit<OciSpec, "process" | "linux">> {
  process: Mutable<Omit<OciSpec["process"], "noNewPrivileges">> & { noNewPrivileges: boolean }
  linux: Mutable<OciSpec["linux"]> & { sysctl?: Record<string, string> }
}

const ALL_CAPABILITIES = readFileSync("/proc/sys/kernel/cap_last_cap", "latin1")
const CAPABILITY_NAMES = [
  "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE",
  "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT",
  "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE",
  "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ",
].slice(0, Number(ALL_CAPABILITIES) + 1).filter((name) => name !== "SYS_RESOURCE").map((name) => `CAP_${name}`) // prettier-ignore

const noNamespace = (type: string) => (spec: LooseSpec) => {
  spec.linux.namespaces = spec.linux.namespaces.filter((one) => one.type !== type)
}
const noMount = (within: string) => (spec: LooseSpec) => {
  spec.mounts = spec.mounts.filter(({ destination }) => destination !== within && !destination.startsWith(`${within}/`))
}

/** Each takes one thing away and leaves the rest as it is. */
const FENCES = {
  "user namespace": (spec: LooseSpec) => {
    noNamespace("user")(spec)
    delete spec.linux.uidMappings
    delete spec.linux.gidMappings
  },
  "network namespace": noNamespace("network"),
  "pid namespace": noNamespace("pid"),
  "ipc namespace": noNamespace("ipc"),
  "uts namespace": noNamespace("uts"),
  "cgroup namespace": noNamespace("cgroup"),
  "system call filter": (spec: LooseSpec) => {
    delete spec.annotations
    delete spec.linux.seccomp
  },
  "capability bounds": (spec: LooseSpec) => {
    const all = CAPABILITY_NAMES
    spec.process.capabilities = { bounding: all, effective: all, permitted: all, inheritable: [], ambient: [] }
  },
  "no new privileges": (spec: LooseSpec) => void (spec.process.noNewPrivileges = false),
  "own /dev": noMount("/dev"),
  "own /proc": noMount("/proc"),
  "read-only cgroups": noMount("/sys/fs/cgroup"),
  "masked paths": (spec: LooseSpec) => void (spec.linux.maskedPaths = []),
  "read-only paths": (spec: LooseSpec) => void (spec.linux.readonlyPaths = []),
  "device rules": (spec: LooseSpec) => {
    spec.linux.resources = { ...spec.linux.resources, devices: [{ allow: true, access: "rwm" }] }
  },
} as const satisfies Record<string, (spec: LooseSpec) => void>
export type Fence = keyof typeof FENCES

export interface BareOptions {
  readonly without: readonly Fence[]
  readonly spec?: SpecChanges
  /** What the image has besides busybox. */
  readonly image?: (root: string) => void
  /** What else of the spec is not as the product writes it. */
  readonly change?: (spec: LooseSpec) => void
  /** Words before the verb. */
  readonly options?: readonly string[]
  readonly verbOptions?: readonly string[]
  /** The runtime's program, where it is not the installed one. */
  readonly program?: string
  readonly env?: Readonly<Record<string, string>>
  /** Shell that runs first, in the runtime's private mount namespace. */
  readonly before?: string
  /** Descriptors that the runtime is started with, from 3 on. */
  readonly descriptors?: readonly number[]
}

export interface Said {
  readonly code: number | null
  /** Standard output and error together, trimmed. */
  readonly text: string
}

export interface Bare {
  readonly id: string
  readonly bundle: string
  readonly child: ChildProcess
  /** What it said so far. */
  readonly text: () => string
  readonly ended: Promise<Said>
  /** `runtime exec` into it. */
  exec(...args: string[]): Said
}

export interface EscapeBench {
  /** The test's own, passable for everybody. */
  readonly dir: string
  /** Starts `sh -c script` under the runtime alone. */
  start(runtime: BareRuntime, script: string, options: BareOptions): Bare
  /** The same to its end. */
  run(runtime: BareRuntime, script: string, options: BareOptions): Promise<Said>
  close(): void
}

const PRESENT = ["hosts", "hostname", "resolv.conf"]
const HOST_BASE = 0x5000_0000 // of no tenant of any bench: ranges are given out from below
const IDS = 65_536

export function versionOf(name: "crun" | "runc" | "conmon"): string {
  const first = execFileSync(name, ["--version"], { encoding: "utf8" }).split("\n")[0] ?? ""
  return first.replace("version ", "")
}

export function openEscapeBench(): EscapeBench {
  const dir = mkdtempSync(join(tmpdir(), "berth-escape-"))
  chmodSync(dir, 0o755)
  const filters = new SeccompFilters(dir)
  const begun: (Bare & { readonly runtime: BareRuntime })[] = []

  function start(runtime: BareRuntime, script: string, options: BareOptions): Bare {
    const run = anAssignment({ spec: { command: ["sh", "-c", script], network: { egress: "none" }, ...options.spec } })
    const id = run.run_id
    const bundle = join(dir, id)
    const under = (name: string) => join(bundle, name)
    const paths = {
      root: under("root"),
      sys: under("sys"),
      etc: under("etc"),
      devices: under("dev"),
      identity: under("identity"),
    }
    for (const path of Object.values(paths)) mkdirSync(path, { recursive: true })
    makeBusyboxRoot(paths.root)
    options.image?.(paths.root)
    if (!options.without.includes("user namespace")) {
      execFileSync("chown", ["-hR", `${HOST_BASE}:${HOST_BASE}`, paths.root])
    }
    for (const name of PRESENT) writeFileSync(join(paths.etc, name), "")
    const spec = structuredClone(
      composeSpec({
        run,
        args: run.spec.command ?? [],
        env: ["PATH=/bin", ...Object.entries(run.spec.env).map(([name, value]) => `${name}=${value}`)],
        workdir: run.spec.workdir ?? "/",
        user: { uid: Number(run.spec.user ?? 0), gid: Number(run.spec.user ?? 0), additionalGids: [], home: "/" },
        range: { hostBase: HOST_BASE, size: IDS },
        paths: { ...paths, netns: null, userns: null },
        grant: null,
        host: { runtime, architecture: process.arch === "arm64" ? "arm64" : "amd64", cgroupVersion: 1 },
        seccompBpf: runtime === "crun" ? filters.without([]).bpf : null,
      }),
    ) as LooseSpec
    for (const fence of options.without) FENCES[fence](spec)
    options.change?.(spec)
    writeFileSync(join(bundle, "config.json"), JSON.stringify(spec))

    const root = [`--root=${bundle}/state`]
    const call = [options.program ?? runtime, ...root, ...(options.options ?? []), "run", ...(options.verbOptions ?? [])]
    const command = [...call, "--bundle", bundle, id]
    // As the bridge does: old crun will not run beside a v2 hierarchy, and /sys is a mount that is made ahead.
    const prelude = `umount /sys/fs/cgroup/unified 2>/dev/null; mount -t sysfs sysfs ${paths.sys}; ${options.before ?? ""}\nexec "$@"`
    const inTerminal = run.spec.tty ? ["script", "-qec", command.map((word) => `'${word}'`).join(" "), "/dev/null"] : command
    const child = spawn("unshare", ["--mount", "--propagation=slave", "sh", "-c", prelude, "sh", ...inTerminal], {
      // Never the host's /dev/null: a runtime gives its standard streams to the container's user, the device itself with them.
      stdio: ["pipe", "pipe", "pipe", ...(options.descriptors ?? [])],
      env: { PATH: process.env["PATH"] ?? "", ...options.env },
    })
    if (!run.spec.tty) child.stdin?.end()
    let text = ""
    const ended = new Promise<Said>((resolve, reject) => {
      for (const stream of [child.stdout, child.stderr]) stream?.on("data", (chunk: Buffer) => void (text += chunk.toString()))
      child.once("error", reject)
      child.once("close", (code) => resolve({ code, text: text.trim() }))
    })
    const exec = (...args: string[]): Said => {
      const { status, stdout, stderr } = spawnSync(runtime, [...root, "exec", ...args], { encoding: "utf8" })
      return { code: status, text: `${stdout}${stderr}`.trim() }
    }
    const bare = { id, bundle, child, text: () => text, ended, exec, runtime }
    begun.push(bare)
    return bare
  }

  return {
    dir,
    start,
    run: (runtime, script, options) => start(runtime, script, options).ended,
    close() {
      for (const { id, bundle, runtime } of begun) {
        spawnSync(runtime, [`--root=${bundle}/state`, "delete", "--force", id])
        removeCgroups(cgroupPathOf(id))
      }
      rmSync(dir, { recursive: true, force: true })
    },
  }
}

/** What a create that failed leaves behind. */
function removeCgroups(path: string): void {
  for (const mount of parseCgroupLayout(readFileSync("/proc/self/mountinfo", "utf8")).mounts.values()) {
    removeCgroup(`${mount}${path}`)
  }
}

function removeCgroup(path: string): void {
  if (!existsSync(path)) return
  for (const entry of readdirSync(path, { withFileTypes: true })) if (entry.isDirectory()) removeCgroup(join(path, entry.name))
  rmdirSync(path)
}

/** Tools of the host's as targets are copies: what an escape overwrites is the test's. */
export function copyOf(dir: string, file: string): string {
  const copy = join(mkdtempSync(join(dir, "copy-")), "program")
  copyFileSync(file, copy)
  chmodSync(copy, 0o755)
  return copy
}
