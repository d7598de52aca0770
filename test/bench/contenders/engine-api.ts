/** Docker's Engine API over its socket on connections that stay open: what a program pays, without starting a client each time. */
import { Agent, request } from "node:http"
import { setTimeout as sleep } from "node:timers/promises"

/** Spoken by every daemon since 18.09 (https://docs.docker.com/reference/api/engine/#versioned-api-and-sdk). */
const VERSION = "/v1.40"

export class EngineApi {
  readonly #agent = new Agent({ keepAlive: true })
  readonly #socketPath: string

  constructor(socketPath: string) {
    this.#socketPath = socketPath
  }

  /** Answers the body as JSON, null when it is empty. An answer outside 2xx rejects with the daemon's message. */
  call(method: "GET" | "POST" | "DELETE", path: string, body?: unknown): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const text = body === undefined ? "" : JSON.stringify(body)
      const headers = body === undefined ? {} : { "content-type": "application/json", "content-length": Buffer.byteLength(text) }
      const call = request(
        { agent: this.#agent, socketPath: this.#socketPath, method, path: VERSION + path, headers },
        (answer) => {
          const parts: Buffer[] = []
          answer.on("data", (part: Buffer) => parts.push(part))
          answer.once("error", reject)
          answer.once("end", () => {
            const received = Buffer.concat(parts).toString("utf8")
            if ((answer.statusCode ?? 500) >= 300 && answer.statusCode !== 304)
              reject(new Error(`${method} ${path}: ${answer.statusCode} ${received.trim()}`))
            else resolve(received.startsWith("{") || received.startsWith("[") ? JSON.parse(received) : null)
          })
        },
      )
      call.once("error", reject)
      call.end(text)
    })
  }

  /** Resolves when the daemon answers; rejects when it has ended or after `timeoutMs`. */
  async answers(timeoutMs: number, ended: Promise<unknown>): Promise<void> {
    let over = false
    const stop = () => (over = true)
    ended.then(stop, stop)
    const deadline = Date.now() + timeoutMs
    for (;;) {
      try {
        await this.call("GET", "/version")
        return
      } catch (error) {
        if (over || Date.now() > deadline) throw error
        await sleep(50)
      }
    }
  }

  close(): void {
    this.#agent.destroy()
  }
}
