/** One platform per state folder. The kernel gives the lock back when its holder dies, however that happens. */
import { closeSync, openSync } from "node:fs"
import koffi from "koffi"
import { Fault } from "./faults.ts"

const LOCK_EX = 2
const LOCK_NB = 4
const flock = koffi.load("libc.so.6").func("int flock(int fd, int operation)") as (fd: number, operation: number) => number

/** Takes flock(2) on `file` and answers how to give it back. */
export async function lockState(file: string): Promise<() => void> {
  const fd = openSync(file, "w", 0o600)
  if (flock(fd, LOCK_EX | LOCK_NB) !== 0) {
    closeSync(fd)
    throw new Fault(`Another Berth uses ${file.replace(/\/lock$/, "")}: end it, or choose another folder with --state.`)
  }
  return () => closeSync(fd)
}
