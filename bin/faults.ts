/** Faults that a stranger may meet, each as one sentence that says what to do. Anything else is ours and shows where it came from. */
import { existsSync } from "node:fs"
import { mkdir, readFile, statfs } from "node:fs/promises"
import { createServer } from "node:net"

/** A fault that was foreseen: its message is all that is shown. */
export class Fault extends Error {
  override readonly name = "Fault"
}

/** Under this much free space the first pull fails in ways that are harder to read. */
const MIN_FREE_BYTES = 512 * 1024 * 1024

/** Checks what the platform needs of this machine before anything is started. */
export async function checkMachine(state: string, port: number): Promise<void> {
  if (process.platform !== "linux") throw new Fault(`Berth runs containers on Linux; this is ${process.platform}.`)
  if (process.getuid?.() !== 0)
    throw new Fault("Berth's node needs root, to make namespaces and mounts: run it as root, or with sudo.")
  if (!(await hasCgroups()))
    throw new Fault("No cgroup file system is mounted under /sys/fs/cgroup: mount cgroup2 there, and start again.")
  await mkdir(state, { recursive: true, mode: 0o700 }).catch((error: unknown) => {
    throw new Fault(
      `The state folder ${state} cannot be made (${error instanceof Error ? error.message : String(error)}): choose another with --state.`,
    )
  })
  const { bavail, bsize } = await statfs(state)
  if (bavail * bsize < MIN_FREE_BYTES) {
    throw new Fault(
      `Only ${Math.floor((bavail * bsize) / 1e6)} MB are free under ${state}: free some, or choose another place with --state.`,
    )
  }
  await checkPort(port)
}

async function hasCgroups(): Promise<boolean> {
  if (existsSync("/sys/fs/cgroup/cgroup.controllers")) return true
  const mounts = await readFile("/proc/self/mounts", "utf8")
  return mounts.split("\n").some((line) => line.split(" ")[2] === "cgroup")
}

async function checkPort(port: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const server = createServer()
    server.once("error", (error: NodeJS.ErrnoException) => {
      const why = error.code === "EADDRINUSE" ? "is taken by another program" : `cannot be used (${error.code ?? error.message})`
      reject(new Fault(`Port ${port} ${why}: end it, or choose another with --port.`))
    })
    server.listen(port, "127.0.0.1", () => server.close(() => resolve()))
  })
}
