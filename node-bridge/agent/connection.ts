/**
 * Keeps one session with the platform for as long as the bridge lives: dials, and dials again with jittered back-off. It
 * ends by itself only when the platform says that this key has no business here any more.
 */
import { WebSocket } from "ws"
import { CLOSE, MAX_TEXT_MESSAGE_BYTES, SUBPROTOCOL } from "../../schema/protocol.ts"
import type { Log } from "../log.ts"
import { explain } from "../log.ts"
import { backoffMs, failuresAfter } from "./backoff.ts"
import { Session } from "./session.ts"
import type { SessionHandlers, Socket } from "./session.ts"
import type { Timers } from "../timers.ts"

const HANDSHAKE_MS = 10_000
/** A closing handshake that takes longer is with a dead peer. */
const CLOSING_MS = 2_000

export interface ConnectionOptions {
  readonly url: string
  readonly assertion: () => Promise<string>
  readonly handlers: SessionHandlers
  readonly timers: Timers
  readonly random: () => number
  readonly log: Log
  readonly sessionEnded: () => void
}

/** Why the bridge must not come back with its key. */
export type Verdict = "forgotten" | "replaced"

interface End {
  readonly code: number
  readonly why: string
  readonly wasOpen: boolean
}

export class Connection {
  readonly #options: ConnectionOptions
  readonly #stop = new AbortController()
  #session: Session | null = null
  #socket: WebSocket | null = null

  constructor(options: ConnectionOptions) {
    this.#options = options
  }

  get session(): Session | null {
    return this.#session
  }

  /** Resolves with the platform's verdict, or with null after `close`. */
  async run(): Promise<Verdict | null> {
    const { timers, log, random } = this.#options
    let failures = 0
    while (!this.#stop.signal.aborted) {
      const begunAt = timers.boottime()
      const end = await this.#one()
      if (this.#stop.signal.aborted) return null
      if (end.code === CLOSE.forgotten) return "forgotten"
      if (end.code === CLOSE.replaced) return "replaced"
      failures = failuresAfter(failures, { wasOpen: end.wasOpen, livedMs: timers.boottime() - begunAt })
      const inMs = backoffMs(failures, random())
      log.warn(`no session with the platform: ${end.why}; tries again`, { in_ms: Math.round(inMs), url: this.#options.url })
      await this.#sleep(inMs)
    }
    return null
  }

  close(): void {
    this.#stop.abort()
    this.#session?.closed()
    if (this.#socket) bounded(this.#socket, this.#options.timers).close(1000, "the bridge ends")
  }

  async #one(): Promise<End> {
    const { url, handlers, timers, sessionEnded } = this.#options
    try {
      const authorization = `Bearer ${await this.#options.assertion()}`
      const socket = new WebSocket(connectUrl(url), [SUBPROTOCOL], {
        headers: { authorization },
        handshakeTimeout: HANDSHAKE_MS,
        maxPayload: MAX_TEXT_MESSAGE_BYTES,
        perMessageDeflate: false,
        followRedirects: false,
      })
      const session = new Session(bounded(socket, timers), handlers, timers)
      this.#socket = socket
      this.#session = session
      return await new Promise<End>((resolve) => {
        let why = "it could not be reached"
        socket.on("open", () => session.opened())
        socket.on("message", (data: Buffer, isBinary: boolean) =>
          isBinary
            ? session.fail(CLOSE.protocol_error, "binary data from the platform")
            : session.received(data.toString("utf8")),
        )
        socket.on("unexpected-response", (request, response) => {
          why = refusalText(response.statusCode ?? 0)
          request.destroy()
          response.destroy()
        })
        socket.on("error", (error) => {
          if (why === "it could not be reached") why = explain(error)
        })
        socket.on("close", (code, reason) => {
          session.closed()
          const { wasOpen } = session
          resolve({ code, wasOpen, why: code === 1006 ? why : `it was closed (${code} ${reason.toString("utf8")})` })
        })
      })
    } catch (error) {
      return { code: 0, wasOpen: false, why: explain(error) }
    } finally {
      this.#session = null
      this.#socket = null
      sessionEnded()
    }
  }

  #sleep(ms: number): Promise<void> {
    const signal = this.#stop.signal
    return new Promise((resolve) => {
      const done = () => {
        cancel()
        signal.removeEventListener("abort", done)
        resolve()
      }
      const cancel = this.#options.timers.after(ms, done)
      signal.addEventListener("abort", done)
    })
  }
}

/** A socket whose closing handshake cannot hold up the next session. */
const bounded = (socket: WebSocket, timers: Timers): Socket => ({
  send: (data) => socket.send(data),
  terminate: () => socket.terminate(),
  close(code, reason) {
    socket.close(code, reason)
    const cancel = timers.after(CLOSING_MS, () => socket.terminate())
    socket.once("close", cancel)
  },
})

function connectUrl(url: string): string {
  const connect = new URL("/v1/nodes/connect", url)
  connect.protocol = connect.protocol === "https:" ? "wss:" : "ws:"
  return connect.href
}

function refusalText(status: number): string {
  if (status === 401 || status === 403)
    return "it does not take this node's key (is the clock right, is the node still enrolled?)"
  if (status === 400 || status === 426) return "it does not speak this bridge's protocol version"
  return `it answered ${status}`
}
