/**
 * The sockets by which containers ask who they are. Each is in a directory of its run's, bound read-only into the container, so
 * whoever can connect is in that container: the question needs no secret. The tenant is on the other end, so what it may cost is
 * bounded. A bridge that takes a container over listens anew in the same directory.
 */
import { chmodSync, rmSync } from "node:fs"
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http"
import { join } from "node:path"
import { Audience, IDENTITY_SOCKET, type IdentityAnswer } from "../../schema/identity.ts"
import type { RunId, TenantId } from "../../schema/ids.ts"
import { explain, type Log } from "../log.ts"

/** Connections of one container at once. */
const MAX_CONNECTIONS = 16
const REQUEST_MS = 10_000
const MAX_HEADER_BYTES = 4096
/** Audiences that a run's tokens are kept for; a program that asks for more than that has them made anew. */
const MAX_KEPT = 16
/** How often a run may have a token made; one that is kept costs nobody anything. */
const MAX_MADE_PER_MINUTE = 60

export interface WhichRun {
  readonly run_id: RunId
  readonly tenant_id: TenantId
}
/** Asks the platform. */
export type IdentityTokens = (run: WhichRun, audience: string, signal: AbortSignal) => Promise<IdentityAnswer>

export class IdentitySockets {
  readonly #tokens: IdentityTokens
  readonly #log: Log
  readonly #now: () => number
  readonly #servers = new Map<RunId, Server>()

  constructor(tokens: IdentityTokens, log: Log, now: () => number) {
    this.#tokens = tokens
    this.#log = log
    this.#now = now
  }

  /** Listens in `dir`, where a socket of an earlier bridge may lie. */
  async open(run: WhichRun, dir: string): Promise<void> {
    this.close(run.run_id)
    const path = join(dir, IDENTITY_SOCKET)
    rmSync(path, { force: true })
    const answer = answering(run, this.#tokens, this.#now)
    const server = createServer(
      { maxHeaderSize: MAX_HEADER_BYTES, requestTimeout: REQUEST_MS, headersTimeout: REQUEST_MS },
      (request, response) => {
        answer(request).then(
          ({ status, body }) => send(response, status, body),
          (error: unknown) => {
            this.#log.warn("a container's identity could not be had", { run: run.run_id, error: explain(error) })
            send(response, 503, { error: "The platform cannot be asked now; try again." })
          },
        )
      },
    )
    server.maxConnections = MAX_CONNECTIONS
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject)
      server.listen(path, resolve)
    })
    server.unref()
    chmodSync(path, 0o666) // whichever user the container's process is
    this.#servers.set(run.run_id, server)
  }

  close(runId: RunId): void {
    const server = this.#servers.get(runId)
    this.#servers.delete(runId)
    server?.closeAllConnections()
    server?.close()
  }

  /** Takes the sockets away as well; the next bridge puts others in their place. */
  closeAll(): void {
    for (const runId of this.#servers.keys()) this.close(runId)
  }
}

interface Said {
  readonly status: number
  readonly body: object
}

function answering(run: WhichRun, tokens: IdentityTokens, now: () => number): (request: IncomingMessage) => Promise<Said> {
  const kept = new Map<string, { readonly answer: IdentityAnswer; readonly freshUntilMs: number }>()
  let made: number[] = []
  return async ({ method, url = "/" }) => {
    const { pathname, searchParams } = new URL(url, "http://identity")
    if (method !== "GET" || pathname !== "/token") return { status: 404, body: { error: "Ask GET /token?audience=…" } }
    const audience = Audience.safeParse(searchParams.get("audience"))
    if (!audience.success) return { status: 400, body: { error: "audience must be 1 to 512 visible ASCII characters." } }
    const known = kept.get(audience.data)
    if (known && now() < known.freshUntilMs) return { status: 200, body: known.answer }
    made = made.filter((at) => now() - at < 60_000)
    if (made.length >= MAX_MADE_PER_MINUTE)
      return { status: 429, body: { error: `At most ${MAX_MADE_PER_MINUTE} tokens a minute.` } }
    made.push(now())
    const answer = await tokens(run, audience.data, AbortSignal.timeout(REQUEST_MS))
    const oldest = kept.size >= MAX_KEPT ? kept.keys().next().value : undefined
    if (oldest !== undefined) kept.delete(oldest)
    // Half of its time is left to whoever it is for.
    kept.set(audience.data, { answer, freshUntilMs: now() + (Date.parse(answer.expires_at) - now()) / 2 })
    return { status: 200, body: answer }
  }
}

function send(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { "content-type": "application/json", "cache-control": "no-store" }).end(JSON.stringify(body))
}
