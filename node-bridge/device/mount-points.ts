/**
 * Where in an image a device's file is mounted. An image may hold links anywhere on the way (`/lib` is one in most); they
 * are followed here, by the kernel, inside the image alone, and the runtime is told a path that has none left. Nobody can
 * put one there in between: the image is nobody's to write, and a run begins with nothing on top of it. What does not exist
 * yet has no links; a link that leads nowhere, or to where nothing may be mounted, is refused (CVE-2024-0132 and
 * CVE-2025-23267 were set-ups that followed such links on the host).
 */
import { closeSync, constants, fstatSync, openSync, readlinkSync } from "node:fs"
import { openInRoot } from "../native/files.ts"
import { SystemCallError } from "../native/libc.ts"
import { ControllerError } from "../runtime/controller.ts"
import type { GrantedMount } from "./grant.ts"

const CLOSED = /^\/(proc|sys|dev)(\/|$)|^\/$|^\/etc(\/(hosts|hostname|resolv\.conf))?$/

/** The mount with its path resolved. Throws `ControllerError`: the image and the device do not go together. */
export function inImage(rootDir: string, mount: GrantedMount): GrantedMount {
  const root = openSync(rootDir, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    const { path, existing } = resolve(root, mount)
    if (CLOSED.test(path)) throw refused(mount, "the image has a link there that leads out of place")
    if (existing !== null && existing !== (mount.isDirectory ? "directory" : "file")) {
      throw refused(mount, `the image has something there that is no ${mount.isDirectory ? "directory" : "file"}`)
    }
    return { ...mount, path }
  } finally {
    closeSync(root)
  }
}

type Kind = "directory" | "file" | "other"

/** As much of the path as exists, by the kernel's reading, and the rest of it as it is. */
function resolve(rootFd: number, mount: GrantedMount): { readonly path: string; readonly existing: Kind | null } {
  const base = readlinkSync(`/proc/self/fd/${rootFd}`)
  const parts = mount.path.split("/").filter((part) => part !== "")
  for (let known = parts.length; known >= 0; known--) {
    const found = look(rootFd, parts.slice(0, known), true, mount)
    if (found === null) continue
    const rest = parts.slice(known)
    if (rest.length > 0 && found.kind !== "directory") throw refused(mount, "the image has a file in its way")
    if (rest.length > 0 && look(rootFd, parts.slice(0, known + 1), false, mount) !== null) {
      throw refused(mount, "the image has a link there that leads nowhere")
    }
    const inside = found.path.slice(base === "/" ? 1 : base.length + 1)
    return {
      path: `/${[inside, ...rest].filter((part) => part !== "").join("/")}`,
      existing: rest.length > 0 ? null : found.kind,
    }
  }
  throw refused(mount, "the image has no root")
}

function look(rootFd: number, parts: readonly string[], follow: boolean, mount: GrantedMount) {
  let fd: number
  try {
    fd = openInRoot(rootFd, parts.join("/") || ".", follow)
  } catch (error) {
    if (error instanceof SystemCallError && error.code === "ENOENT") return null
    throw refused(mount, "the image has a link there that cannot be followed", error)
  }
  try {
    const stats = fstatSync(fd)
    const kind: Kind = stats.isDirectory() ? "directory" : stats.isFile() ? "file" : "other"
    return { path: readlinkSync(`/proc/self/fd/${fd}`), kind }
  } finally {
    closeSync(fd)
  }
}

const refused = (mount: GrantedMount, why: string, cause?: unknown) =>
  new ControllerError("device_mount_refused", `The device's files cannot be put at ${mount.path}: ${why}.`, { cause })
