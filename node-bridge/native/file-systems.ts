/**
 * File systems in image files: a file as a block device (loop(4)), and a file system of it mounted without a place, as a
 * descriptor. Whatever may wait for the disk or for a grace period of the kernel runs on a thread of the pool.
 *
 * Nothing here outlives its last descriptor: the loop device lets the file go when its last user does (AUTOCLEAR), and the
 * mount, which is in no table, goes with the last descriptor and the last mount made of it. The device's node stays with the
 * kernel, 18 KiB, for the next who wants one.
 */
import { close, closeSync, openSync } from "node:fs"
import { promisify } from "node:util"
import koffi from "koffi"
import { MOUNT_ATTR, SystemCallError } from "./libc.ts"

const libc = koffi.load("libc.so.6")
const ioctl = libc.func("ioctl", "int", ["int", "ulong", "ulong"])
const ioctlAt = libc.func("ioctl", "int", ["int", "ulong", "void *"])
const lseek = libc.func("long lseek(int fd, long offset, int whence)")
const fsopen = libc.func("syscall", "long", ["long", "str", "uint"])
const fsconfig = libc.func("syscall", "long", ["long", "int", "uint", "str", "str", "int"])
const fsmount = libc.func("syscall", "long", ["long", "int", "uint", "uint"])
const closed = promisify(close)

const SYS_FSOPEN = 430
const SYS_FSCONFIG = 431
const SYS_FSMOUNT = 432
const CLOEXEC = 1
const FSCONFIG = { SET_FLAG: 0, SET_STRING: 1, CMD_CREATE: 6 } as const

const LOOP_CTL_GET_FREE = 0x4c82
const LOOP_CONFIGURE = 0x4c0a
/** struct loop_config of linux/loop.h: fd, block size, then struct loop_info64, whose flags are at byte 52. */
const LOOP_CONFIG_BYTES = 304
const LOOP_CONFIG_FLAGS_AT = 8 + 52
const LO_FLAGS_AUTOCLEAR = 4
/** Not cached twice, once as the file's pages and once as the file system's; ignored where the file cannot. */
const LO_FLAGS_DIRECT_IO = 16
/** Between the answer "number N is free" and our use of it somebody else may take N. */
const TRIES = 64

/** koffi refuses what goes beyond 256 calls at once, and the pool has four threads: more would only wait there. */
const MAX_IN_FLIGHT = 16
let inFlight = 0
const waiting: (() => void)[] = []

/** A call on a thread of the pool, in its turn. koffi keeps a thread's errno for the callback. */
async function later(what: string, call: (done: (error: unknown, result: unknown) => void) => void): Promise<number> {
  if (inFlight < MAX_IN_FLIGHT) inFlight++
  else await new Promise<void>((resolve) => waiting.push(resolve))
  try {
    return await new Promise<number>((resolve, reject) => {
      call((error, result) => {
        const errno = koffi.errno()
        if (error !== null && error !== undefined) reject(error instanceof Error ? error : new Error(String(error)))
        else if (Number(result) < 0) reject(new SystemCallError(what, errno))
        else resolve(Number(result))
      })
    })
  } finally {
    // Whoever waits takes this one's place.
    const next = waiting.shift()
    if (next) next()
    else inFlight--
  }
}

export interface LoopDevice {
  readonly fd: number
  readonly path: string
}

let lastAttached: Promise<unknown> = Promise.resolve()

/**
 * Makes a block device of an open file. The caller closes the descriptor once something else uses the device. One after the
 * other: all who ask at once for a free number are told the same one.
 */
export function attachLoop(file: number): Promise<LoopDevice> {
  const attached = lastAttached.then(() => attach(file))
  lastAttached = attached.catch(() => {})
  return attached
}

async function attach(file: number): Promise<LoopDevice> {
  const control = openSync("/dev/loop-control", "r+")
  try {
    for (let tries = 1; ; tries++) {
      const number = await later("LOOP_CTL_GET_FREE", (done) => void ioctl.async(control, LOOP_CTL_GET_FREE, 0, done))
      const path = `/dev/loop${number}`
      let fd = -1
      try {
        fd = openSync(path, "r+")
        await configure(fd, file)
        return { fd, path }
      } catch (error) {
        if (fd !== -1) closeSync(fd)
        if (tries === TRIES || !isTaken(error)) throw error
      }
    }
  } finally {
    closeSync(control)
  }
}

async function configure(fd: number, file: number): Promise<void> {
  const config = Buffer.alloc(LOOP_CONFIG_BYTES)
  config.writeUInt32LE(file, 0)
  config.writeUInt32LE(LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO, LOOP_CONFIG_FLAGS_AT)
  await later("LOOP_CONFIGURE", (done) => void ioctlAt.async(fd, LOOP_CONFIGURE, config, done))
}

/** Configured by another, or just taken away. */
const isTaken = (error: unknown) =>
  error instanceof Error && "code" in error && ["EBUSY", "ENOENT", "ENXIO", "ENODEV"].includes(String(error.code))

/** `options` as fsconfig(2) takes them: `name` or `name=value`. Answers a descriptor of the mount's root. */
export async function mountFileSystem(type: string, source: string, options: readonly string[]): Promise<number> {
  const context = checked(`fsopen ${type}`, fsopen(SYS_FSOPEN, type, CLOEXEC))
  try {
    const set = (name: string, value?: string) => {
      const command = value === undefined ? FSCONFIG.SET_FLAG : FSCONFIG.SET_STRING
      checked(`fsconfig ${name}`, fsconfig(SYS_FSCONFIG, context, command, name, value ?? null, 0))
    }
    set("source", source)
    for (const option of options) set(...(option.split("=", 2) as [string, string?]))
    await later(`mount ${type}`, (done) => {
      fsconfig.async(SYS_FSCONFIG, context, FSCONFIG.CMD_CREATE, null, null, 0, done)
    })
    const attributes = MOUNT_ATTR.NOSUID | MOUNT_ATTR.NODEV | MOUNT_ATTR.NOATIME
    return checked("fsmount", fsmount(SYS_FSMOUNT, context, CLOEXEC, attributes))
  } finally {
    await closed(context)
  }
}

/** The same at once, for a file system of the kernel's own that no disk is under: some 60 µs. */
export function mountKernelFiles(type: string): number {
  const context = checked(`fsopen ${type}`, fsopen(SYS_FSOPEN, type, CLOEXEC))
  try {
    checked(`mount ${type}`, fsconfig(SYS_FSCONFIG, context, FSCONFIG.CMD_CREATE, null, null, 0))
    const attributes = MOUNT_ATTR.NOSUID | MOUNT_ATTR.NODEV | MOUNT_ATTR.NOEXEC
    return checked("fsmount", fsmount(SYS_FSMOUNT, context, CLOEXEC, attributes))
  } finally {
    closeSync(context)
  }
}

function checked(what: string, result: unknown): number {
  const value = Number(result)
  if (value < 0) throw new SystemCallError(what, koffi.errno())
  return value
}

const SEEK_DATA = 3
const SEEK_HOLE = 4

/** The stretches of a file that are not holes, as the file system tells them. */
export function dataStretches(fd: number): { readonly from: number; readonly to: number }[] {
  const found: { from: number; to: number }[] = []
  for (let at = 0; ;) {
    const from = Number(lseek(fd, at, SEEK_DATA))
    if (from < 0) return found
    const to = Number(lseek(fd, from, SEEK_HOLE))
    found.push({ from, to })
    at = to
  }
}
