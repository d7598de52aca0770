/**
 * Starts a program without copying this process first. Node's own spawn forks: with a bridge's memory that takes 3 to 8 ms,
 * in which this thread does nothing else and a burst of starts queues up. posix_spawn(3) shares the memory until the
 * program runs, so it costs less than one.
 *
 * For programs that leave a daemon behind: nobody is told of the end, the process is only reaped.
 */
import { closeSync } from "node:fs"
import { Socket } from "node:net"
import type { Readable } from "node:stream"
import { setTimeout as delay } from "node:timers/promises"
import koffi from "koffi"
import { SystemCallError } from "./libc.ts"

const libc = koffi.load("libc.so.6")
const c = {
  actionsInit: libc.func("int posix_spawn_file_actions_init(void *actions)"),
  actionsDestroy: libc.func("int posix_spawn_file_actions_destroy(void *actions)"),
  addOpen: libc.func(
    "int posix_spawn_file_actions_addopen(void *actions, int fd, const char *path, int flags, unsigned int mode)",
  ),
  addDup2: libc.func("int posix_spawn_file_actions_adddup2(void *actions, int fd, int newFd)"),
  addChdir: libc.func("int posix_spawn_file_actions_addchdir_np(void *actions, const char *path)"),
  attrInit: libc.func("int posix_spawnattr_init(void *attr)"),
  attrDestroy: libc.func("int posix_spawnattr_destroy(void *attr)"),
  setFlags: libc.func("int posix_spawnattr_setflags(void *attr, short flags)"),
  setSigDefault: libc.func("int posix_spawnattr_setsigdefault(void *attr, const void *set)"),
  setSigMask: libc.func("int posix_spawnattr_setsigmask(void *attr, const void *set)"),
  sigFillSet: libc.func("int sigfillset(void *set)"),
  spawn: libc.func(
    "int posix_spawn(_Out_ int *pid, const char *path, const void *actions, const void *attr, const char **argv, const char **envp)",
  ),
  pipe2: libc.func("int pipe2(_Out_ int *fds, int flags)"),
  waitpid: libc.func("int waitpid(int pid, _Out_ int *status, int options)"),
}

/** Room for glibc's opaque types, the largest of which has 336 bytes. */
const OPAQUE_BYTES = 512
const SETSIGDEF = 0x04
const SETSIGMASK = 0x08
const SETSID = 0x80
const O_CLOEXEC = 0o2000000
const O_RDWR = 2
const WNOHANG = 1
const REAP_EVERY_MS = 20

export interface DaemonOptions {
  readonly cwd: string
  readonly env: Readonly<Record<string, string>>
}

export interface Daemon {
  /** What it writes to descriptors 2 and 3. */
  readonly stderr: Readable
  readonly sync: Readable
}

/** `file` is a path. In a session of its own, with default signals and nothing of ours open. Throws `SystemCallError`. */
export function spawnDaemon(file: string, args: readonly string[], { cwd, env }: DaemonOptions): Daemon {
  const stderr = pipe()
  const sync = pipe()
  try {
    void reap(spawn(file, [file, ...args], { cwd, env }, stderr.write, sync.write))
  } catch (error) {
    closeSync(stderr.read)
    closeSync(sync.read)
    throw error
  } finally {
    closeSync(stderr.write)
    closeSync(sync.write)
  }
  return { stderr: reader(stderr.read), sync: reader(sync.read) }
}

function spawn(file: string, argv: readonly string[], { cwd, env }: DaemonOptions, stderr: number, sync: number): number {
  const actions = Buffer.alloc(OPAQUE_BYTES)
  const attributes = Buffer.alloc(OPAQUE_BYTES)
  const set = Buffer.alloc(OPAQUE_BYTES)
  c.actionsInit(actions)
  c.attrInit(attributes)
  try {
    c.addChdir(actions, cwd)
    for (const fd of [0, 1]) c.addOpen(actions, fd, "/dev/null", O_RDWR, 0)
    // In this order: whichever numbers the pipes have, none is overwritten before it is used.
    c.addDup2(actions, stderr, 2)
    c.addDup2(actions, sync, 3)
    c.setSigMask(attributes, set)
    c.sigFillSet(set)
    c.setSigDefault(attributes, set)
    c.setFlags(attributes, SETSIGDEF | SETSIGMASK | SETSID)
    const environment = Object.entries(env).map(([name, value]) => `${name}=${value}`)
    const pid = [0]
    const failed: number = c.spawn(pid, file, actions, attributes, [...argv, null], [...environment, null])
    if (failed !== 0) throw new SystemCallError(`posix_spawn ${file}`, failed)
    return pid[0] ?? 0
  } finally {
    c.attrDestroy(attributes)
    c.actionsDestroy(actions)
  }
}

function pipe(): { readonly read: number; readonly write: number } {
  const fds = [0, 0]
  if (c.pipe2(fds, O_CLOEXEC) !== 0) throw new SystemCallError("pipe2", koffi.errno())
  return { read: fds[0] ?? 0, write: fds[1] ?? 0 }
}

const reader = (fd: number): Readable => new Socket({ fd, readable: true, writable: false })

/** Node reaps its own children alone. */
async function reap(pid: number): Promise<void> {
  while (c.waitpid(pid, [0], WNOHANG) === 0) await delay(REAP_EVERY_MS, undefined, { ref: false })
}
