/**
 * The device nodes that a process can reach by name, seen through its root, and what its cgroup lets it do with each. Only
 * nodes in `/dev` itself and mount points below it are looked at: a container cannot make a node, so every other one was
 * mounted. No name that a container could have made is followed.
 */
import { lstatSync, opendirSync } from "node:fs"
import type { Stats } from "node:fs"
import { join } from "node:path"
import type { Isolation } from "../../schema/isolation.ts"
import { accessTo, deviceNumber, parseDeviceRules } from "./proc-text.ts"

/** A container may fill its `/dev` with names. The runtime's nodes are made first, and tmpfs lists the newest first. */
const MOST_NAMES = 4096
/** On v2 a program decides, and the kernel shows none of it. */
const UNREAD = "unread"

export function readDevices(root: string, mountPoints: readonly string[], rules: string | null): Isolation["devices"] {
  const parsed = rules === null ? null : parseDeviceRules(rules)
  // A node that is bound over a file is a file to whoever lists the directory.
  const mounted = mountPoints.filter((target) => target.startsWith("/dev/"))
  return [...new Set([...nodesIn(root), ...mounted])].sort().flatMap((path) => {
    const stats = look(join(root, path))
    if (stats === null || !(stats.isCharacterDevice() || stats.isBlockDevice())) return []
    const type = stats.isBlockDevice() ? ("b" as const) : ("c" as const)
    const device = { type, ...deviceNumber(stats.rdev) }
    return [{ path, ...device, access: parsed === null ? UNREAD : accessTo(parsed, device) }]
  })
}

function nodesIn(root: string): string[] {
  const found: string[] = []
  try {
    const directory = opendirSync(join(root, "dev"))
    try {
      for (let seen = 0; seen < MOST_NAMES; seen++) {
        const entry = directory.readSync()
        if (entry === null) break
        if (entry.isCharacterDevice() || entry.isBlockDevice()) found.push(`/dev/${entry.name}`)
      }
    } finally {
      directory.closeSync()
    }
  } catch {
    // It has no /dev.
  }
  return found.sort()
}

function look(path: string): Stats | null {
  try {
    return lstatSync(path)
  } catch {
    return null
  }
}
