/** Commands to a bridge that wait for their result. In memory: a caller waits on this object, so it stays awake meanwhile. */
import { AppError, type ErrorCode } from "../../schema/errors.ts"
import type { Reason } from "../../schema/protocol.ts"

/** A bridge answers in milliseconds; after this it is taken for stuck. */
const COMMAND_TIMEOUT_MS = 10_000

interface Waiting {
  resolve(json: string): void
  reject(error: AppError): void
}

export class Commands {
  readonly #waiting = new Map<number, Waiting>()
  #next: number

  /** `first` is the first command's id: the bridge may still answer what an object before this one had asked. */
  constructor(first: number) {
    this.#next = first
  }

  /** Sends with a new id and waits for the result under it. */
  async call(send: (id: number) => void): Promise<string> {
    const id = this.#next++
    const { promise, resolve, reject } = Promise.withResolvers<string>()
    const late = () => reject(new AppError("node_unreachable", "The container's node did not answer in time."))
    const timer = setTimeout(late, COMMAND_TIMEOUT_MS)
    this.#waiting.set(id, { resolve, reject })
    try {
      send(id)
      return await promise
    } finally {
      clearTimeout(timer)
      this.#waiting.delete(id)
    }
  }

  answered(id: number, error: Reason | null, data: unknown): void {
    const waiting = this.#waiting.get(id)
    if (error === null) waiting?.resolve(JSON.stringify(data ?? null))
    else waiting?.reject(refusalOf(error))
  }

  breakAll(): void {
    const error = new AppError("node_unreachable", "The connection to the container's node was lost.")
    for (const waiting of this.#waiting.values()) waiting.reject(error)
  }
}

/** What a bridge refuses because of the run's state; anything else it says is a fault of the host. */
const REFUSALS = new Map<string, ErrorCode>([
  ["no_such_run", "not_found"],
  ["not_running", "action_not_allowed"],
])

const refusalOf = ({ code, message }: Reason): AppError => new AppError(REFUSALS.get(code) ?? "unavailable", message)
