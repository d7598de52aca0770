/**
 * The few system calls that Node does not offer, called in-process through koffi: a spawn costs milliseconds, these cost
 * microseconds. Synchronous on purpose: `unshare` and `setns` change the calling thread alone, and only a call that never
 * yields is sure to come back on the same thread.
 *
 * The numbers of `open_tree`, `move_mount` and `mount_setattr` are the same on every architecture (they came after the
 * kernel's tables were unified); the rest are functions of glibc.
 */
import { closeSync } from "node:fs"
import { constants } from "node:os"
import koffi from "koffi"

const libc = koffi.load("libc.so.6")

const SYS_OPEN_TREE = 428
const SYS_MOUNT_SETATTR = 442

const raw = {
  unshare: libc.func("int unshare(int flags)"),
  setns: libc.func("int setns(int fd, int type)"),
  fchdir: libc.func("int fchdir(int fd)"),
  mount: libc.func("int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)"),
  umount: libc.func("int umount2(const char *target, int flags)"),
  ifNameToIndex: libc.func("unsigned int if_nametoindex(const char *name)"),
  socket: libc.func("int socket(int domain, int type, int protocol)"),
  send: libc.func("long send(int fd, const void *data, size_t size, int flags)"),
  recv: libc.func("long recv(int fd, _Out_ void *data, size_t size, int flags)"),
  memfdCreate: libc.func("int memfd_create(const char *name, unsigned int flags)"),
  fcntl: libc.func("int fcntl(int fd, int cmd, long argument)"),
  ioctl: libc.func("int ioctl(int fd, unsigned long request, _Inout_ unsigned int *argument)"),
  openTree: libc.func("syscall", "long", ["long", "int", "str", "uint"]),
  mountSetattr: libc.func("syscall", "long", ["long", "int", "str", "uint", "const void *", "size_t"]),
}

const NAME_OF = new Map(Object.entries(constants.errno).map(([name, number]) => [number, name]))

/** A system call that the kernel refused. `code` is the name as Node's own errors carry it (`EPERM`, `ENOSPC`, …). */
export class SystemCallError extends Error {
  readonly code: string
  readonly errno: number
  constructor(call: string, errno: number) {
    const code = NAME_OF.get(errno) ?? `errno ${errno}`
    super(`${call}: ${code}`)
    this.name = "SystemCallError"
    this.code = code
    this.errno = errno
  }
}

function checked(call: string, result: unknown): number {
  const value = Number(result)
  if (value < 0) throw new SystemCallError(call, koffi.errno())
  return value
}

export const CLONE_NEWNS = 0x00020000
export const CLONE_NEWNET = 0x40000000

/** Moves the calling thread into new namespaces. */
export const unshare = (flags: number) => void checked("unshare", raw.unshare(flags))
/** Moves the calling thread into the namespace that `fd` holds. */
export const setns = (fd: number, type: number) => void checked("setns", raw.setns(fd, type))

const NS_GET_OWNER_UID = 0xb704

/** Whose user namespace it is: the host uid that created it. ioctl_ns(2). */
export function namespaceOwner(fd: number): number {
  const uid = [0]
  checked("ioctl NS_GET_OWNER_UID", raw.ioctl(fd, NS_GET_OWNER_UID, uid))
  return uid[0] ?? 0
}

/** Sets the calling thread's current directory. */
export const fchdir = (fd: number) => void checked("fchdir", raw.fchdir(fd))

/** MS_* of mount(2). */
export const MOUNT = { RDONLY: 0x1, NOSUID: 0x2, NODEV: 0x4, NOEXEC: 0x8, BIND: 0x1000, REC: 0x4000, SLAVE: 0x80000 } as const

/** Mounts in the calling thread's mount namespace. */
export const mount = (source: string, target: string, type: string | null, flags: number, data: string | null) =>
  void checked(`mount ${target}`, raw.mount(source, target, type, flags, data))
export const umount = (target: string) => void checked(`umount ${target}`, raw.umount(target, 0))

/** The index of an interface in the calling thread's network namespace. */
export function interfaceIndex(name: string): number {
  const index: number = raw.ifNameToIndex(name)
  if (index === 0) throw new SystemCallError(`if_nametoindex ${name}`, koffi.errno())
  return index
}

const MFD_CLOEXEC = 1
const MFD_ALLOW_SEALING = 2
const F_ADD_SEALS = 1033
/** SEAL, SHRINK, GROW and WRITE: nobody, not even root, changes the file again. */
const ALL_SEALS = 15

/** An empty file in memory, named for `/proc` alone, as a descriptor; `seal` makes it unchangeable once it is written. */
export const memoryFile = (name: string) => checked("memfd_create", raw.memfdCreate(name, MFD_CLOEXEC | MFD_ALLOW_SEALING))
export const seal = (fd: number) => void checked("fcntl F_ADD_SEALS", raw.fcntl(fd, F_ADD_SEALS, ALL_SEALS))

const FS_IOC_GETFLAGS = 0x80086601
const FS_IOC_SETFLAGS = 0x40086602
const FS_TOPDIR_FL = 0x20000

/** Says of an open directory that those in it have nothing to do with each other (`chattr +T`). Throws where no such thing is known. */
export function markUnrelated(fd: number): void {
  const flags = [0]
  checked("ioctl FS_IOC_GETFLAGS", raw.ioctl(fd, FS_IOC_GETFLAGS, flags))
  checked("ioctl FS_IOC_SETFLAGS", raw.ioctl(fd, FS_IOC_SETFLAGS, [(flags[0] ?? 0) | FS_TOPDIR_FL]))
}

const AF_NETLINK = 16
const SOCK_RAW_CLOEXEC = 3 | 0o2000000

const MSG_DONTWAIT = 0x40

/** A netlink socket of the calling thread's network namespace; it stays bound to that one. */
export const netlinkSocket = (protocol: number) => checked("socket", raw.socket(AF_NETLINK, SOCK_RAW_CLOEXEC, protocol))
export const send = (fd: number, data: Buffer) => checked("send", raw.send(fd, data, data.length, 0))

/** One datagram that is already there, as its length; null when none is. */
export function receiveNow(fd: number, into: Buffer): number | null {
  const size = Number(raw.recv(fd, into, into.length, MSG_DONTWAIT))
  if (size >= 0) return size
  const errno = koffi.errno()
  if (errno === constants.errno.EAGAIN) return null
  throw new SystemCallError("recv", errno)
}

const AT_FDCWD = -100
const AT_EMPTY_PATH = 0x1000
const OPEN_TREE_CLONE = 1
const OPEN_TREE_CLOEXEC = 0o2000000

/** MOUNT_ATTR_* of mount_setattr(2). */
export const MOUNT_ATTR = { RDONLY: 0x1, NOSUID: 0x2, NODEV: 0x4, NOEXEC: 0x8, NOATIME: 0x10, IDMAP: 0x100000 } as const

/** A detached bind mount of `path` with attributes set, as a descriptor; closing the last reference dissolves it. */
export function detachedMount(path: string, attributes: number, usernsFd: number): number {
  const tree = checked("open_tree", raw.openTree(SYS_OPEN_TREE, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC))
  try {
    // struct mount_attr: set, clear, propagation, userns_fd, each 64 bits.
    const attr = Buffer.alloc(32)
    attr.writeBigUInt64LE(BigInt(attributes), 0)
    attr.writeBigUInt64LE(BigInt(usernsFd), 24)
    checked("mount_setattr", raw.mountSetattr(SYS_MOUNT_SETATTR, tree, "", AT_EMPTY_PATH, attr, attr.length))
    return tree
  } catch (error) {
    closeSync(tree)
    throw error
  }
}
