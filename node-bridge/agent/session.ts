/**
 * One session with the platform over one socket: hello, welcome, the complete set, then whatever either side has to say.
 * Sessions are disposable. Anything that cannot be read, an answer that does not come, an increment that does not chain:
 * each ends the session, and nothing of it survives; the next one begins with the complete set.
 */
import { z } from "zod"
import { RunId } from "../../schema/ids.ts"
import {
  CLOSE,
  HEARTBEAT_REQUEST,
  HEARTBEAT_RESPONSE,
  MAX_TEXT_MESSAGE_BYTES,
  PlatformMessage,
  PROTOCOL_VERSION,
} from "../../schema/protocol.ts"
import type { NodeMessage } from "../../schema/protocol.ts"
import type { Timers } from "../timers.ts"

/** How long the platform may take from the open socket to the whole complete set. */
const GREETING_MS = 20_000
/** Unanswered heartbeats after which the other side is taken for dead. */
const MISSED_HEARTBEATS = 2

/** The part of a WebSocket that a session uses. */
export interface Socket {
  send(data: string | Uint8Array): void
  close(code: number, reason: string): void
  /** Ends it at once; a close handshake with a dead peer would hang. */
  terminate(): void
}

/**
 * Assignments are checked one by one by whoever takes them (a bad one rejects its run alone), so here they stay unread.
 * All else must be exactly as the schema says.
 */
const Incoming = z.union([
  z.strictObject({
    type: z.literal("complete"),
    results_in: z.int(),
    assignments: z.array(z.unknown()),
    more: z.boolean(),
  }),
  z.strictObject({
    type: z.literal("increment"),
    applies_to: z.int(),
    results_in: z.int(),
    upsert: z.array(z.unknown()),
    remove: z.array(RunId),
  }),
  PlatformMessage,
])

type Welcome = PlatformMessage & { type: "welcome" }
export type StreamMessage = PlatformMessage & { type: "stream_open" | "stream_credit" | "stream_close" }
export type CommandMessage = PlatformMessage & { type: "command" }

export interface SessionHandlers {
  readonly hello: () => NodeMessage & { type: "hello" }
  readonly welcome: (welcome: Welcome) => void
  readonly complete: (assignments: readonly unknown[]) => void
  readonly expect: () => void
  readonly increment: (upsert: readonly unknown[], remove: readonly RunId[]) => void
  readonly acknowledged: (seq: number) => void
  readonly command: (message: CommandMessage) => void
  readonly stream: (message: StreamMessage) => void
  /** The hello or a heartbeat that left at this boot time has been answered. */
  readonly alive: (sentAt: number) => void
  /** Something came. What was on its way while this process was stopped must not count: the session may be over after this. */
  readonly heed: () => void
}

export class Session {
  readonly #socket: Socket
  readonly #handlers: SessionHandlers
  readonly #timers: Timers
  #phase: "dialling" | "greeting" | "filling" | "open" | "over" = "dialling"
  #wasOpen = false
  #filling: unknown[] = []
  #version = 0
  #heartbeatMs = 0
  #helloAt = 0
  #unanswered: number[] = []
  #cancelTimer: (() => void) | null = null

  constructor(socket: Socket, handlers: SessionHandlers, timers: Timers) {
    this.#socket = socket
    this.#handlers = handlers
    this.#timers = timers
  }

  /** The socket is open. */
  opened(): void {
    this.#phase = "greeting"
    this.#helloAt = this.#timers.boottime()
    this.send(this.#handlers.hello())
    this.#cancelTimer = this.#timers.after(GREETING_MS, () => this.fail(CLOSE.protocol_error, "no complete set in time"))
  }

  /** Before the hello nothing is sent: what the message would tell, the hello tells. */
  send(message: NodeMessage): void {
    if (this.#phase !== "over" && this.#phase !== "dialling") this.#socket.send(JSON.stringify(message))
  }

  sendBytes(frame: Uint8Array): void {
    if (this.#phase !== "over") this.#socket.send(frame)
  }

  /** The socket is closed, by whomever. */
  closed(): void {
    this.#phase = "over"
    this.#cancelTimer?.()
  }

  fail(code: number, reason: string): void {
    if (this.#phase === "over") return
    this.closed()
    this.#socket.close(code, reason.slice(0, 120))
  }

  /** Ends it at once, whatever is on its way. */
  abandon(): void {
    if (this.#phase === "over") return
    this.closed()
    this.#socket.terminate()
  }

  /** Whether it came as far as the complete set. */
  get wasOpen(): boolean {
    return this.#wasOpen
  }

  received(data: string): void {
    if (this.#phase === "over") return
    this.#handlers.heed()
    // `heed` may have ended it.
    if (this.#isOver) return
    if (data === HEARTBEAT_RESPONSE) return this.#answered()
    const message = read(data)
    if (message === undefined) return this.fail(CLOSE.protocol_error, "a message that this bridge cannot read")
    switch (message.type) {
      case "welcome":
        return this.#welcomed(message)
      case "complete":
        return this.#completed(message.assignments, message.results_in, message.more)
      case "increment":
        return this.#incremented(message)
      case "expect":
        return this.#handlers.expect()
      case "report_ack":
        return this.#handlers.acknowledged(message.seq)
      case "command":
        return this.#handlers.command(message)
      case "stream_open":
      case "stream_credit":
      case "stream_close":
        return this.#handlers.stream(message)
    }
  }

  get #isOver(): boolean {
    return this.#phase === "over"
  }

  #welcomed(message: Welcome): void {
    if (message.protocol !== PROTOCOL_VERSION) return this.fail(CLOSE.version, `protocol ${message.protocol} is not ours`)
    if (this.#phase !== "greeting") return this.fail(CLOSE.protocol_error, "a second welcome")
    this.#phase = "filling"
    this.#heartbeatMs = message.heartbeat_seconds * 1000
    this.#handlers.welcome(message)
    this.#handlers.alive(this.#helloAt)
    this.#cancelTimer?.()
    this.#beat()
  }

  #completed(assignments: readonly unknown[], resultsIn: number, more: boolean): void {
    if (this.#phase === "greeting") return this.fail(CLOSE.protocol_error, "assignments before the welcome")
    this.#phase = "filling"
    this.#filling.push(...assignments)
    if (more) return
    this.#phase = "open"
    this.#wasOpen = true
    this.#version = resultsIn
    this.#handlers.complete(this.#filling.splice(0))
  }

  #incremented(message: { applies_to: number; results_in: number; upsert: unknown[]; remove: RunId[] }): void {
    if (this.#phase !== "open" || message.applies_to !== this.#version) {
      return this.fail(CLOSE.resync, `an increment for ${message.applies_to}, and this is ${this.#version}`)
    }
    this.#version = message.results_in
    this.#handlers.increment(message.upsert, message.remove)
  }

  #beat(): void {
    if (this.#unanswered.length >= MISSED_HEARTBEATS) return this.abandon()
    this.#unanswered.push(this.#timers.boottime())
    this.#socket.send(HEARTBEAT_REQUEST)
    this.#cancelTimer = this.#timers.after(this.#heartbeatMs, () => this.#beat())
  }

  #answered(): void {
    const sentAt = this.#unanswered.shift()
    if (sentAt !== undefined) this.#handlers.alive(sentAt)
  }
}

function read(data: string): z.infer<typeof Incoming> | undefined {
  if (data.length > MAX_TEXT_MESSAGE_BYTES) return undefined
  try {
    return Incoming.safeParse(JSON.parse(data)).data
  } catch {
    return undefined
  }
}
