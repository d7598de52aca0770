/**
 * Bytes of one stream, sent in frames as far as the reader's credit reaches and never further: a slow reader holds up its
 * own stream and fills nobody's memory. The producer waits while a little is buffered here.
 */
import { encodeStreamChunk, MAX_STREAM_CHUNK_BYTES } from "../../schema/protocol.ts"

/** Enough to fill a frame while the next is being read. */
const BUFFER_BYTES = 2 * MAX_STREAM_CHUNK_BYTES

export class CreditedSender {
  readonly #stream: number
  readonly #send: (frame: Uint8Array) => void
  #credit: number
  #queue: Uint8Array[] = []
  #queued = 0
  #scheduled = false
  #waiting: { readonly below: number; readonly resolve: () => void }[] = []

  constructor(stream: number, creditBytes: number, send: (frame: Uint8Array) => void) {
    this.#stream = stream
    this.#credit = creditBytes
    this.#send = send
  }

  grant(bytes: number): void {
    this.#credit += bytes
    this.#flush()
  }

  /** Resolves when there is room for more. Lines written in one turn of the event loop share a frame. */
  write(bytes: Uint8Array, signal: AbortSignal): Promise<void> {
    this.#queue.push(bytes)
    this.#queued += bytes.length
    if (!this.#scheduled) {
      this.#scheduled = true
      setImmediate(() => {
        this.#scheduled = false
        if (!signal.aborted) this.#flush()
      })
    }
    return this.#below(BUFFER_BYTES, signal)
  }

  /** Resolves when every byte was sent. */
  drained(signal: AbortSignal): Promise<void> {
    return this.#below(1, signal)
  }

  #below(bytes: number, signal: AbortSignal): Promise<void> {
    if (this.#queued < bytes) return Promise.resolve()
    return new Promise((resolve, reject) => {
      const waiter = {
        below: bytes,
        resolve: () => {
          signal.removeEventListener("abort", leave)
          resolve()
        },
      }
      const leave = () => {
        this.#waiting = this.#waiting.filter((other) => other !== waiter)
        reject(signal.reason)
      }
      signal.addEventListener("abort", leave, { once: true })
      this.#waiting.push(waiter)
    })
  }

  #flush(): void {
    while (this.#credit > 0 && this.#queued > 0) {
      const frame = this.#take(Math.min(this.#credit, MAX_STREAM_CHUNK_BYTES))
      this.#credit -= frame.length
      this.#send(encodeStreamChunk(this.#stream, frame))
    }
    const ready = this.#waiting.filter((waiter) => this.#queued < waiter.below)
    this.#waiting = this.#waiting.filter((waiter) => this.#queued >= waiter.below)
    for (const waiter of ready) waiter.resolve()
  }

  /** Up to `limit` bytes off the front. */
  #take(limit: number): Uint8Array {
    const parts: Uint8Array[] = []
    let length = 0
    while (length < limit) {
      const first = this.#queue[0]
      if (!first) break
      const part = first.subarray(0, limit - length)
      parts.push(part)
      length += part.length
      if (part.length === first.length) this.#queue.shift()
      else this.#queue[0] = first.subarray(part.length)
    }
    this.#queued -= length
    return Buffer.concat(parts)
  }
}
