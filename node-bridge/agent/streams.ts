/** Log streams of one session: each reads for as long as the platform wants it and sends within the platform's credit. */
import type { RunId, TenantId } from "../../schema/ids.ts"
import type { LogEntry, NodeMessage, Reason } from "../../schema/protocol.ts"
import { ControllerError } from "../runtime/controller.ts"
import type { Controller } from "../runtime/controller.ts"
import type { Log } from "../log.ts"
import { explain } from "../log.ts"
import { CreditedSender } from "./credited-sender.ts"
import { readLogs } from "./log-reader.ts"
import type { StreamMessage } from "./session.ts"

/** Each open stream holds a file or two and a frame's worth of memory. */
const MAX_STREAMS = 256
/** No tenant may take so many of them that others cannot read their logs. */
export const MAX_STREAMS_PER_TENANT = 64

export interface StreamsDeps {
  readonly controller: Controller
  readonly log: Log
  /** Whose run it is; undefined when it is not on this node. */
  readonly tenantOf: (runId: RunId) => TenantId | undefined
  readonly send: (message: NodeMessage) => void
  readonly sendBytes: (frame: Uint8Array) => void
}

interface Stream {
  readonly sender: CreditedSender
  readonly abort: AbortController
  readonly tenant: TenantId | undefined
}

const CLOSED = new Error("The stream was closed.")
const encoder = new TextEncoder()

export class Streams {
  readonly #deps: StreamsDeps
  readonly #open = new Map<number, Stream>()

  constructor(deps: StreamsDeps) {
    this.#deps = deps
  }

  received(message: StreamMessage): void {
    switch (message.type) {
      case "stream_open":
        return this.#begin(message)
      case "stream_credit":
        this.#open.get(message.stream)?.sender.grant(message.bytes)
        return
      case "stream_close":
        this.#open.get(message.stream)?.abort.abort(CLOSED)
        return
    }
  }

  /** The session is over, and its streams with it. */
  closeAll(): void {
    for (const { abort } of this.#open.values()) abort.abort(CLOSED)
    this.#open.clear()
  }

  #begin(message: StreamMessage & { type: "stream_open" }): void {
    const [first] = message.run_ids
    const tenant = first && this.#deps.tenantOf(first)
    const own = [...this.#open.values()].filter((open) => open.tenant === tenant).length
    if (this.#open.size >= MAX_STREAMS || own >= MAX_STREAMS_PER_TENANT || this.#open.has(message.stream)) {
      const reason = { code: "too_many_streams", message: "This node reads as many logs at once as it can." }
      return this.#deps.send({ type: "stream_end", stream: message.stream, error: reason })
    }
    const stream = {
      sender: new CreditedSender(message.stream, message.credit_bytes, this.#deps.sendBytes),
      abort: new AbortController(),
      tenant,
    }
    this.#open.set(message.stream, stream)
    void this.#serve(message, stream)
  }

  async #serve(message: StreamMessage & { type: "stream_open" }, stream: Stream): Promise<void> {
    const error = await this.#pump(message, stream)
    if (this.#open.get(message.stream) !== stream) return
    this.#open.delete(message.stream)
    // Who closed the stream does not want to hear of its end.
    if (!stream.abort.signal.aborted) this.#deps.send({ type: "stream_end", stream: message.stream, error })
  }

  async #pump(message: StreamMessage & { type: "stream_open" }, { sender, abort }: Stream): Promise<Reason | null> {
    const { controller, log } = this.#deps
    try {
      for await (const entry of readLogs(controller, message.run_ids, message.logs, abort.signal)) {
        await sender.write(encodeLine(entry), abort.signal)
      }
      await sender.drained(abort.signal)
      return null
    } catch (error) {
      if (abort.signal.aborted) return null
      if (error instanceof ControllerError) return error.reason
      log.warn("could not read a log", { run: message.run_ids.at(-1), error: explain(error) })
      return { code: "log_unreadable", message: "The node could not read the log." }
    }
  }
}

const encodeLine = (entry: LogEntry): Uint8Array => encoder.encode(`${JSON.stringify(entry)}\n`)
