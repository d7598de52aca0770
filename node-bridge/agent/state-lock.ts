/**
 * One bridge a state directory. The lock is a listening socket in the kernel's abstract namespace, named after the
 * directory: taken atomically, gone with the process however it dies, and never stale.
 */
import { stat } from "node:fs/promises"
import { createServer } from "node:net"
import { EXIT, Fault } from "./fault.ts"

export async function lockState(dir: string): Promise<{ release: () => void }> {
  const { dev, ino } = await stat(dir)
  const server = createServer((socket) => socket.destroy())
  server.unref()
  await new Promise<void>((resolve, reject) => {
    server.once("listening", resolve)
    server.once("error", (error: NodeJS.ErrnoException) => {
      const taken = `The state directory ${dir} is in use by another node-bridge; end it first, or give --state another one.`
      reject(error.code === "EADDRINUSE" ? new Fault(EXIT.taken, taken) : error)
    })
    server.listen({ path: `\0berth-node-bridge-${dev}-${ino}`, exclusive: true })
  })
  return { release: () => void server.close() }
}
