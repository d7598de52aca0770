/** Processes whose root is a disk that hangs: a file system of FUSE behind which nobody ever answers. */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { mkdirSync } from "node:fs"
import { identify } from "../../node-bridge/runtime/process-identity.ts"
import type { ProcessIdentity } from "../../node-bridge/runtime/process-identity.ts"

/** By number, for no library names it (asm/unistd_64.h, asm-generic/unistd.h). */
const PIVOT_ROOT = process.arch === "arm64" ? 41 : 155
const PROGRAM = `
import ctypes, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
place = sys.argv[1].encode()
def check(result):
    if result != 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
check(libc.mount(b"none", place, b"fuse", 0, b"fd=%d,rootmode=40000,user_id=0,group_id=0" % os.open("/dev/fuse", os.O_RDWR)))
check(libc.syscall(${PIVOT_ROOT}, place, place))
print("ready", flush=True)
signal.pause()
`

export interface HungProcess {
  readonly identity: ProcessIdentity
  /** Ends it: all who wait for its disk hear an error then. */
  end(): Promise<void>
}

export async function hungProcess(dir: string): Promise<HungProcess> {
  mkdirSync(dir)
  const child = spawn("unshare", ["--mount", "python3", "-c", PROGRAM, dir], { stdio: ["ignore", "pipe", "inherit"] })
  await once(child.stdout, "data")
  const identity = identify(child.pid ?? 0)
  if (identity === null) throw new Error("the process has ended")
  const ended = once(child, "exit")
  const end = async () => {
    child.kill("SIGKILL")
    await ended
  }
  return { identity, end }
}
