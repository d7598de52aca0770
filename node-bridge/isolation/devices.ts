/**
 * The device nodes that a process can reach by name, seen through its root, and what its cgroup lets it do with each. Only
 * nodes in `/dev` itself and mount points below it are looked at: a container cannot make a node, so every other one was
 * mounted. No name that a container could have made is followed.
 */
import type { Stats } from "node:fs"
import { lstat, opendir } from "node:fs/promises"
import { join } from "node:path"
import type { Isolation } from "../../schema/isolation.ts"
import { accessTo, deviceNumber, parseDeviceRules } from "./proc-text.ts"

/** A container may fill its `/dev` with names. The runtime's nodes are made first, and tmpfs lists the newest first. */
const MOST_NAMES = 4096
/** On v2 a program decides, and the kernel shows none of it. */
const UNREAD = "unread"

export async function readDevices(
  root: string,
  mountPoints: readonly string[],
  rules: string | null,
): Promise<Isolation["devices"]> {
  const parsed = rules === null ? null : parseDeviceRules(rules)
  // A node that is bound over a file is a file to whoever lists the directory.
  const mounted = mountPoints.filter((target) => target.startsWith("/dev/"))
  const found: Isolation["devices"] = []
  for (const path of [...new Set([...(await nodesIn(root)), ...mounted])].sort()) {
    const stats = await look(join(root, path))
    if (stats === null || !(stats.isCharacterDevice() || stats.isBlockDevice())) continue
    const type = stats.isBlockDevice() ? ("b" as const) : ("c" as const)
    const device = { type, ...deviceNumber(stats.rdev) }
    found.push({ path, ...device, access: parsed === null ? UNREAD : accessTo(parsed, device) })
  }
  return found
}

async function nodesIn(root: string): Promise<string[]> {
  const found: string[] = []
  try {
    const directory = await opendir(join(root, "dev"), { bufferSize: MOST_NAMES })
    try {
      for (let seen = 0; seen < MOST_NAMES; seen++) {
        const entry = await directory.read()
        if (entry === null) break
        if (entry.isCharacterDevice() || entry.isBlockDevice()) found.push(`/dev/${entry.name}`)
      }
    } finally {
      await directory.close()
    }
  } catch {
    // It has no /dev.
  }
  return found.sort()
}

const look = (path: string): Promise<Stats | null> => lstat(path).catch(() => null)
