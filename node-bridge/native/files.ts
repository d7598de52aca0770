/**
 * Two file system calls that Node does not offer: making a device node, and opening a path without ever leaving a root.
 * `openat2` has the same number on every architecture; its structure is `flags`, `mode`, `resolve`, each 64 bits.
 */
import { constants } from "node:fs"
import koffi from "koffi"
import { SystemCallError } from "./libc.ts"

const libc = koffi.load("libc.so.6")
const raw = {
  mknod: libc.func("int mknod(const char *path, unsigned int mode, unsigned long dev)"),
  openat2: libc.func("syscall", "long", ["long", "int", "str", "const void *", "size_t"]),
}

const SYS_OPENAT2 = 437
const O_PATH = 0o10000000
const O_CLOEXEC = 0o2000000
/** No other file system, no /proc/PID/fd, and links resolved as if the directory were the root. */
const RESOLVE_NO_XDEV = 0x01
const RESOLVE_NO_MAGICLINKS = 0x02
const RESOLVE_IN_ROOT = 0x10

/** As glibc's gnu_dev_makedev. */
const makedev = (major: number, minor: number): bigint =>
  (BigInt(major & 0xfff) << 8n) | BigInt(minor & 0xff) | ((BigInt(minor) & 0xfff00n) << 12n)

export function makeNode(path: string, type: "b" | "c", major: number, minor: number): void {
  const format = type === "c" ? constants.S_IFCHR : constants.S_IFBLK
  if (Number(raw.mknod(path, format | 0o600, makedev(major, minor))) < 0)
    throw new SystemCallError(`mknod ${path}`, koffi.errno())
}

/** A descriptor that names what `path` is below the directory `root`; `follow` says whether a link at its end counts. */
export function openInRoot(root: number, path: string, follow: boolean): number {
  const how = Buffer.alloc(24)
  how.writeBigUInt64LE(BigInt(O_PATH | O_CLOEXEC | (follow ? 0 : constants.O_NOFOLLOW)), 0)
  how.writeBigUInt64LE(BigInt(RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | RESOLVE_IN_ROOT), 16)
  const fd = Number(raw.openat2(SYS_OPENAT2, root, path, how, how.length))
  if (fd < 0) throw new SystemCallError(`openat2 ${path}`, koffi.errno())
  return fd
}
