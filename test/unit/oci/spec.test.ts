import { array, assert, property, string } from "fast-check"
import { readFileSync } from "node:fs"
import { expect, test } from "vitest"
import { seccompForRuntime } from "../../../node-bridge/oci/seccomp.ts"
import { composeSpec } from "../../../node-bridge/oci/spec.ts"
import type { SpecInput } from "../../../node-bridge/oci/spec.ts"
import { anAssignment } from "../../support/assignments.ts"

const RUN = "run_01kax0000000000000000000ab"

function anInput(
  changes: Partial<SpecInput> & { spec?: NonNullable<Parameters<typeof anAssignment>[0]>["spec"] } = {},
): SpecInput {
  const { spec, ...rest } = changes
  return {
    run: { ...anAssignment({ spec }), run_id: RUN as SpecInput["run"]["run_id"] },
    args: ["/bin/sh", "-c", "true"],
    env: ["PATH=/bin"],
    workdir: "/",
    user: { uid: 0, gid: 0, additionalGids: [], home: "/root" },
    range: { hostBase: 1_879_048_192, size: 65_536 },
    paths: {
      root: "/m/root",
      sys: "/m/sys",
      etc: "/m/etc",
      devices: "/m/dev",
      identity: "/m/identity",
      netns: "/proc/7/fd/20",
      userns: "/proc/7/fd/21",
    },
    host: { runtime: "crun", architecture: "amd64", cgroupVersion: 1 },
    seccompBpf: "AAAA",
    grant: null,
    ...rest,
  }
}

test("a socket for its identity is bound read-only, after what may be mounted on /run", () => {
  const asked = composeSpec(anInput({ spec: { identity: true, read_only: true } })).mounts
  const [own, run] = ["/run/berth", "/run"].map((path) => asked.findIndex(({ destination }) => destination === path))
  expect(asked[own ?? -1]).toMatchObject({
    source: "/m/identity",
    type: "bind",
    options: expect.arrayContaining(["ro", "nosuid", "nodev", "noexec"]),
  })
  expect(own).toBeGreaterThan(run ?? 0)
  expect(composeSpec(anInput()).mounts.some(({ destination }) => destination === "/run/berth")).toBe(false)
})

test.each([
  ["hardened-crun", anInput()],
  [
    "hardened-runc",
    anInput({ paths: { ...anInput().paths, userns: null }, host: { ...anInput().host, runtime: "runc" }, seccompBpf: null }),
  ],
  [
    "sandboxed-runsc",
    anInput({
      paths: { ...anInput().paths, userns: null, netns: null },
      host: { ...anInput().host, runtime: "runsc" },
      seccompBpf: null,
      spec: { profile: "sandboxed" },
    }),
  ],
  [
    "hardened-user-read-only",
    anInput({ user: { uid: 1000, gid: 1000, additionalGids: [5], home: "/" }, spec: { read_only: true, tty: true } }),
  ],
])("%s is the file that was reviewed", (name, input) => {
  const golden: unknown = JSON.parse(readFileSync(new URL(`../../golden/oci/${name}.json`, import.meta.url), "utf8"))
  expect(composeSpec(input)).toEqual(golden)
})

test("a tenant can only give up: capabilities leave every set, system calls the list, and nothing else changes", () => {
  const runc = {
    paths: { ...anInput().paths, userns: null },
    host: { ...anInput().host, runtime: "runc" as const },
    seccompBpf: null,
  }
  const wide = composeSpec(anInput(runc))
  const deny = ["chmod", "socket", "mount"]
  const made = composeSpec(anInput({ ...runc, spec: { capabilities: ["CAP_KILL", "CAP_CHOWN"], seccomp: { deny } } }))
  const held = ["CAP_CHOWN", "CAP_KILL"]
  expect(made.process.capabilities).toEqual({ bounding: held, effective: held, permitted: held, inheritable: [], ambient: [] })
  expect(made.linux.seccomp).toEqual(seccompForRuntime("amd64", deny))
  expect({ ...made, process: { ...made.process, capabilities: null }, linux: { ...made.linux, seccomp: null } }).toEqual({
    ...wide,
    process: { ...wide.process, capabilities: null },
    linux: { ...wide.linux, seccomp: null },
  })
  const none = composeSpec(anInput({ spec: { capabilities: [] } })).process.capabilities
  expect(Object.values(none).flat()).toEqual([])
})

test("whatever a tenant writes stays in the process, the host name and the limits", () => {
  const text = string({ maxLength: 50 })
  assert(
    property(array(text), array(text), text, (args, env, hostname) => {
      const made = composeSpec(anInput({ args, env, workdir: `/${hostname}`, spec: { hostname: hostname.slice(0, 63) } }))
      const plain = composeSpec(anInput())
      expect({ ...made, process: plain.process, hostname: plain.hostname }).toEqual(plain)
      expect(Object.keys(made.annotations ?? {})).toEqual(["run.oci.seccomp_bpf_data"])
    }),
  )
})

const resourcesOf = (cpus: number, memory_bytes: number, pids: number) =>
  composeSpec(anInput({ spec: { resources: { cpus, memory_bytes, pids } } })).linux.resources

test("limits are in the kernel's units and within its bounds", () => {
  expect(resourcesOf(0.5, 64 << 20, 9)).toMatchObject({
    cpu: { quota: 10_000, period: 20_000, shares: 512 },
    memory: { limit: 64 << 20, swap: 64 << 20 },
    pids: { limit: 9 },
  })
  expect(resourcesOf(0.01, 8 << 20, 1).cpu).toMatchObject({ quota: 1000, shares: 10 })
  expect(resourcesOf(1024, 8 << 20, 1).cpu.shares).toBe(262_144)
})

test("what is used of a processor at once is little, but for a small run enough to do something", () => {
  expect(resourcesOf(0.01, 8 << 20, 1).cpu).toMatchObject({ quota: 1_000, period: 100_000 })
  expect(resourcesOf(0.25, 8 << 20, 1).cpu).toMatchObject({ quota: 10_000, period: 40_000 })
  expect(resourcesOf(2, 8 << 20, 1).cpu).toMatchObject({ quota: 40_000, period: 20_000 })
})

test("open files are what was asked, and cannot be raised", () => {
  const limits = composeSpec(anInput({ spec: { resources: { open_files: 4096 } } })).process.rlimits
  expect(limits[0]).toEqual({ type: "RLIMIT_NOFILE", soft: 4096, hard: 4096 })
})
