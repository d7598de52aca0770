/** A registry that takes calls and never answers them, or only those for manifests: what a broken mirror looks like. */
import { createServer } from "node:http"
import type { Registry } from "./registry.ts"

export interface StalledRegistry {
  /** `127.0.0.1:PORT`. */
  readonly host: string
  stop(): Promise<void>
}

/** `behind`: a registry whose manifests it passes on; without one it is silent from the first call. */
export async function startStalledRegistry(behind?: Registry): Promise<StalledRegistry> {
  const server = createServer(async ({ url = "/", method = "GET", headers }, response) => {
    if (behind === undefined || url.includes("/blobs/")) return
    const answer = await fetch(`http://${behind.host}${url}`, { method, headers: { accept: headers.accept ?? "*/*" } })
    response.writeHead(answer.status, Object.fromEntries(answer.headers)).end(Buffer.from(await answer.arrayBuffer()))
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const address = server.address()
  if (address === null || typeof address === "string") throw new Error("no port")
  return {
    host: `127.0.0.1:${address.port}`,
    stop: async () => {
      const closed = new Promise((resolve) => server.close(resolve))
      server.closeAllConnections()
      await closed
    },
  }
}
