/**
 * The one socket of a node's session. It outlives this object's memory (hibernation), so what belongs to the session lies in
 * the socket's attachment; a newer session replaces an older one.
 */
import {
  CLOSE, HEARTBEAT_REQUEST, HEARTBEAT_RESPONSE, MAX_TEXT_MESSAGE_BYTES, NodeMessage, type PlatformMessage, PROTOCOL_VERSION,
} from "../../schema/protocol.ts" // prettier-ignore
import type { Phase } from "./session.ts"

interface Attachment {
  /** Rises with each session. */
  readonly session: number
  readonly phase: Phase
  /** What the bridge holds: the version that the last set or increment led to. */
  readonly version: number
}

const isOpen = (socket: WebSocket) => socket.readyState === WebSocket.OPEN
const attachmentOf = (socket: WebSocket) => socket.deserializeAttachment() as Attachment | null

export class Sockets {
  readonly #ctx: DurableObjectState

  constructor(ctx: DurableObjectState) {
    this.#ctx = ctx
    ctx.setWebSocketAutoResponse(new WebSocketRequestResponsePair(HEARTBEAT_REQUEST, HEARTBEAT_RESPONSE))
  }

  accept(socket: WebSocket): void {
    const older = this.#ctx.getWebSockets()
    const session = older.reduce((most, one) => Math.max(most, attachmentOf(one)?.session ?? 0), 0) + 1
    this.#ctx.acceptWebSocket(socket)
    socket.serializeAttachment({ session, phase: "new", version: 0 } satisfies Attachment)
    for (const one of older) close(one, CLOSE.replaced, "a newer session took over")
  }

  /** The newest session's socket, while it is open. */
  current(): WebSocket | undefined {
    const sockets = this.#ctx.getWebSockets().filter(isOpen)
    return sockets.toSorted((a, b) => (attachmentOf(b)?.session ?? 0) - (attachmentOf(a)?.session ?? 0))[0]
  }

  phase(socket: WebSocket): Phase {
    return attachmentOf(socket)?.phase ?? "new"
  }

  moveTo(socket: WebSocket, phase: Phase, version: number): void {
    const session = attachmentOf(socket)?.session ?? 0
    socket.serializeAttachment({ session, phase, version } satisfies Attachment)
  }

  /** The socket of a session that has its complete set. */
  open(): { socket: WebSocket; version: number } | undefined {
    const socket = this.current()
    const attachment = socket && attachmentOf(socket)
    return socket && attachment?.phase === "open" ? { socket, version: attachment.version } : undefined
  }

  /** When the platform last answered a heartbeat; it does so without waking this object. */
  heartbeatMs(): number | null {
    const socket = this.current()
    return (socket && this.#ctx.getWebSocketAutoResponseTimestamp(socket)?.getTime()) ?? null
  }

  closeAll(code: number, reason: string): void {
    for (const socket of this.#ctx.getWebSockets()) close(socket, code, reason)
  }
}

export function send(socket: WebSocket, message: PlatformMessage): void {
  try {
    socket.send(JSON.stringify(message))
  } catch {
    // It closed under us. Whatever this was, the next session's complete set or a time-out makes up for it.
  }
}

export function close(socket: WebSocket, code: number, reason: string): void {
  try {
    socket.close(code, reason)
  } catch {
    // closed already
  }
}

export type Read =
  | { readonly ok: true; readonly message: NodeMessage }
  | { readonly ok: false; readonly code: number; readonly why: string }

/** What a bridge said, or the close code for having said something else. Only a hello may be of another version, to be told so. */
export function readMessage(data: string): Read {
  if (data.length > MAX_TEXT_MESSAGE_BYTES) return { ok: false, code: CLOSE.protocol_error, why: "message too large" }
  let value: unknown
  try {
    value = JSON.parse(data)
  } catch {
    return { ok: false, code: CLOSE.protocol_error, why: "not JSON" }
  }
  if (isOtherVersion(value)) return { ok: false, code: CLOSE.version, why: `this platform speaks version ${PROTOCOL_VERSION}` }
  const parsed = NodeMessage.safeParse(value)
  if (parsed.success) return { ok: true, message: parsed.data }
  const issue = parsed.error.issues[0]
  return {
    ok: false,
    code: CLOSE.protocol_error,
    why: `${issue?.path.join(".") ?? ""}: ${issue?.message ?? "unreadable"}`.slice(0, 120),
  }
}

const isOtherVersion = (value: unknown) =>
  typeof value === "object" &&
  value !== null &&
  "type" in value &&
  value.type === "hello" &&
  "protocol" in value &&
  value.protocol !== PROTOCOL_VERSION
