/**
 * Project quotas of XFS and ext4: a directory tree under one number, and a limit on what all files of that number take.
 * Attributes as in linux/fs.h, limits as struct fs_disk_quota of linux/dqblk_xfs.h, which the kernel takes for both file
 * systems. `quotactl_fd` (Linux 5.14) names the file system by a descriptor: no block device has to be found.
 */
import koffi from "koffi"
import { SystemCallError } from "./libc.ts"

const libc = koffi.load("libc.so.6")
const ioctl = libc.func("ioctl", "int", ["int", "ulong", "_Inout_ void *"])
const quotactl = libc.func("syscall", "long", ["long", "int", "uint", "int", "void *"])

const FS_IOC_FSGETXATTR = 0x801c581f
const FS_IOC_FSSETXATTR = 0x401c5820
/** struct fsxattr: flags, two sizes, the project's number, one more size, padding. */
const FSXATTR_BYTES = 28
const FSXATTR_PROJECT_AT = 12
/** What is made below has the number too, and statfs(2) below tells the quota. */
const FS_XFLAG_PROJINHERIT = 0x200

const SYS_QUOTACTL_FD = 443
const PRJQUOTA = 2
const Q_XSETQLIM = 0x5804
const BASIC_BLOCK_BYTES = 512
const FS_DQUOT_BYTES = 112
const FS_DQUOT_VERSION = 1
const FS_PROJ_QUOTA = 2
const FS_DQ_LIMITS = 0b1111

/** Puts a directory, and all that will be made in it, under a project. Throws `SystemCallError`. */
export function setProject(directory: number, project: number): void {
  const attributes = getAttributes(directory)
  attributes.writeUInt32LE(attributes.readUInt32LE(0) | FS_XFLAG_PROJINHERIT, 0)
  attributes.writeUInt32LE(project, FSXATTR_PROJECT_AT)
  checked("FS_IOC_FSSETXATTR", ioctl(directory, FS_IOC_FSSETXATTR, attributes))
}

export const projectOf = (directory: number): number => getAttributes(directory).readUInt32LE(FSXATTR_PROJECT_AT)

function getAttributes(directory: number): Buffer {
  const attributes = Buffer.alloc(FSXATTR_BYTES)
  checked("FS_IOC_FSGETXATTR", ioctl(directory, FS_IOC_FSGETXATTR, attributes))
  return attributes
}

/** 0 for no limit. `on` is any descriptor on the file system. Throws `SystemCallError`. */
export function limitProject(on: number, project: number, bytes: number, inodes: number): void {
  checked(
    "quotactl_fd",
    quotactl(SYS_QUOTACTL_FD, on, (Q_XSETQLIM << 8) | PRJQUOTA, project, encodeLimits(project, bytes, inodes)),
  )
}

/** struct fs_disk_quota with hard and soft limits alike, so that there is no time of grace. Pure. */
export function encodeLimits(project: number, bytes: number, inodes: number): Buffer {
  const quota = Buffer.alloc(FS_DQUOT_BYTES)
  quota.writeInt8(FS_DQUOT_VERSION, 0)
  quota.writeInt8(FS_PROJ_QUOTA, 1)
  quota.writeUInt16LE(FS_DQ_LIMITS, 2)
  quota.writeUInt32LE(project, 4)
  const blocks = BigInt(Math.floor(bytes / BASIC_BLOCK_BYTES))
  for (const at of [8, 16]) quota.writeBigUInt64LE(blocks, at)
  for (const at of [24, 32]) quota.writeBigUInt64LE(BigInt(inodes), at)
  return quota
}

function checked(what: string, result: unknown): void {
  if (Number(result) < 0) throw new SystemCallError(what, koffi.errno())
}
