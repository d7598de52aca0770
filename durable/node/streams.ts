/**
 * Log streams from a bridge to readers. A WebSocket buffers without bound, so the bridge sends only what it has credit for,
 * and credit goes back as the reader takes bytes: what lies here is never more than one window per stream.
 */
import { decodeStreamChunk, MAX_STREAM_CHUNK_BYTES, STREAM_CREDIT_BYTES } from "../../schema/protocol.ts"
import type { Reason } from "../../schema/protocol.ts"

/** Credit goes back in steps of this size: fewer messages, and the window never runs dry for a reader that keeps up. */
const CREDIT_STEP_BYTES = STREAM_CREDIT_BYTES / 4

/** A reader that has left is noticed only by writing to it, so a silent stream carries an empty line this often. */
const KEEPALIVE_MS = 15_000
const NEWLINE = 0x0a
const EMPTY_LINE = new TextEncoder().encode("\n")

export interface StreamPeer {
  credit(stream: number, bytes: number): void
  closed(stream: number): void
}

interface Stream {
  readonly writer: WritableStreamDefaultWriter<Uint8Array>
  readonly keepalive: ReturnType<typeof setInterval>
  /** Writes that the reader has not taken. */
  writing: number
  /** Bytes that the bridge may still send. */
  allowed: number
  /** Bytes that the reader has taken, not yet given back as credit. */
  taken: number
  /** The last byte ended a line: frames are cut where credit ends, which may be inside one. */
  betweenLines: boolean
}

export class Streams {
  readonly #peer: StreamPeer
  readonly #open = new Map<number, Stream>()
  #next: number

  /** `first` is the first stream's number: the bridge may still send what an object before this one had opened. */
  constructor(peer: StreamPeer, first: number) {
    this.#peer = peer
    this.#next = first
  }

  open(): { stream: number; readable: ReadableStream<Uint8Array> } {
    const { readable, writable } = new IdentityTransformStream()
    const stream = this.#next++
    const writer = writable.getWriter()
    const keepalive = setInterval(() => void this.#keepAlive(stream), KEEPALIVE_MS)
    this.#open.set(stream, { writer, keepalive, writing: 0, allowed: STREAM_CREDIT_BYTES, taken: 0, betweenLines: true })
    writer.closed.catch(() => this.#leave(stream))
    return { stream, readable }
  }

  /** True when the frame brings bytes to a stream that is open. */
  expects(frame: ArrayBuffer): boolean {
    const chunk = decodeStreamChunk(frame)
    return chunk !== undefined && chunk.bytes.length > 0 && this.#open.has(chunk.stream)
  }

  /** False when the frame breaks the protocol: it names no stream, or exceeds the credit. */
  received(frame: ArrayBuffer): boolean {
    const chunk = decodeStreamChunk(frame)
    if (chunk === undefined || chunk.bytes.length > MAX_STREAM_CHUNK_BYTES) return false
    const open = this.#open.get(chunk.stream)
    if (open === undefined) {
      // It crossed with our close, or its reader went with an object before this one.
      this.#peer.closed(chunk.stream)
      return true
    }
    const { length } = chunk.bytes
    open.allowed -= length
    if (open.allowed < 0) return false
    if (length > 0) {
      open.betweenLines = chunk.bytes.at(-1) === NEWLINE
      void this.#pass(chunk.stream, open, chunk.bytes)
    }
    return true
  }

  ended(stream: number, error: Reason | null): void {
    const open = this.#forget(stream)
    if (open === undefined) return
    const done = error === null ? open.writer.close() : open.writer.abort(new Error(error.message))
    done.catch(() => {}) // the reader has left already
  }

  /** The session is over: readers see their stream break off, and may ask again from where they were. */
  breakAll(): void {
    for (const stream of this.#open.keys()) {
      this.ended(stream, { code: "node_unreachable", message: "The connection to the node was lost." })
    }
  }

  /** Credit goes back once the reader has taken the bytes; writes wait for each other in order. */
  async #pass(stream: number, open: Stream, bytes: Uint8Array): Promise<void> {
    if (!(await this.#write(stream, open, bytes))) return
    open.taken += bytes.length
    if (open.taken < CREDIT_STEP_BYTES || !this.#open.has(stream)) return
    this.#peer.credit(stream, open.taken)
    open.allowed += open.taken
    open.taken = 0
  }

  async #write(stream: number, open: Stream, bytes: Uint8Array): Promise<boolean> {
    open.writing++
    try {
      await open.writer.write(bytes)
      return true
    } catch {
      this.#leave(stream)
      return false
    } finally {
      open.writing--
    }
  }

  async #keepAlive(stream: number): Promise<void> {
    const open = this.#open.get(stream)
    if (open?.writing === 0 && open.betweenLines) await this.#write(stream, open, EMPTY_LINE)
  }

  #leave(stream: number): void {
    if (this.#forget(stream)) this.#peer.closed(stream)
  }

  #forget(stream: number): Stream | undefined {
    const open = this.#open.get(stream)
    if (open) clearInterval(open.keepalive)
    this.#open.delete(stream)
    return open
  }
}
