/**
 * A copy of a program in memory that nobody can change, root neither. crun runs from one anyway, so that a container cannot
 * reach back through `/proc/PID/exe` and overwrite the program on the host: started from a file it makes a copy each time
 * and starts itself a second time, 2 ms of a create. Started from a sealed copy it sees that there is nothing to do
 * (crun's src/libcrun/cloned_binary.c). All containers of this bridge share the one copy.
 */
import { closeSync, openSync, readFileSync, readSync, writeFileSync } from "node:fs"
import { memoryFile, seal } from "./libc.ts"

const ELF = Buffer.from("\x7fELF", "latin1")

export interface SealedProgram {
  /** Good in every process while this one holds the descriptor. */
  readonly path: string
  release(): void
}

/** What `/proc/PID/exe` of a process says that runs from the copy. */
export const sealedName = (name: string) => `/memfd:${name} (deleted)`

/** Null for a script, which has no file to protect: its interpreter is what runs. */
export function sealedProgram(file: string, name: string): SealedProgram | null {
  if (!isElf(file)) return null
  const fd = memoryFile(name)
  try {
    writeFileSync(fd, readFileSync(file))
    seal(fd)
  } catch (error) {
    closeSync(fd)
    throw error
  }
  return { path: `/proc/${process.pid}/fd/${fd}`, release: () => closeSync(fd) }
}

function isElf(file: string): boolean {
  const fd = openSync(file, "r")
  try {
    const head = Buffer.alloc(ELF.length)
    readSync(fd, head)
    return head.equals(ELF)
  } finally {
    closeSync(fd)
  }
}
