/** Real character devices under names of the test's own, described as CDI has it. `probes/devices.c` uses them for real. */
import { execFileSync } from "node:child_process"
import { mkdirSync, writeFileSync } from "node:fs"
import { dirname } from "node:path"

/** Numbers from Documentation/admin-guide/devices.txt, all of the kernel's miscellaneous major; the last is nobody's. */
export const REAL = { kvm: 232, fuse: 229, tun: 200, nothing: 250 } as const
const MISC_MAJOR = 10

export type RealDevice = keyof typeof REAL

/** A node of its own for a real device: what is done to it is done to no other. */
export function makeNodeOf(path: string, device: RealDevice): void {
  mkdirSync(dirname(path), { recursive: true })
  execFileSync("mknod", ["-m", "600", path, "c", String(MISC_MAJOR), String(REAL[device])])
}

export function describeDevices(file: string, spec: { kind: string; devices: object[] } & Record<string, unknown>): void {
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, JSON.stringify({ cdiVersion: "0.7.0", ...spec }), { mode: 0o644 })
}
