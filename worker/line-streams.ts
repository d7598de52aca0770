/**
 * Turns a stream of lines into another form while it is read, and shows life when there are none. Nothing is read before the
 * client has taken what came before, so a slow client holds up the sender and fills no memory here.
 */

/** Proxies and clients give up on a connection that is silent for a minute or less. */
export const KEEPALIVE_SECONDS = 15
/** A line longer than this is not one of ours: log entries and events are far smaller. */
const MAX_LINE_CHARACTERS = 4 * 1024 * 1024

export interface LineMap {
  /** Sent before the first line, so that the client sees the answer's headers at once. */
  readonly opening?: string
  /** The form of one line, "" to leave it out. */
  map(line: string): string
  /** What is sent after `KEEPALIVE_SECONDS` without a line; without it nothing is. */
  readonly keepalive?: string
  /** Ends the stream after this long without a line: without keepalives a client that left is never noticed. */
  readonly idleSeconds?: number
}

export function mapLines(source: ReadableStream<Uint8Array>, how: LineMap): ReadableStream<Uint8Array> {
  const reader = source.getReader()
  const decoder = new TextDecoder()
  const encoder = new TextEncoder()
  const silence = (how.keepalive === undefined ? (how.idleSeconds ?? 0) : KEEPALIVE_SECONDS) * 1000
  let reading: Promise<ReadableStreamReadResult<Uint8Array>> | undefined
  let rest = ""

  /** Whole lines of what has come so far; the last part waits for its end. */
  function take(text: string): string {
    const lines = (rest + text).split("\n")
    rest = lines.pop() ?? ""
    if (rest.length > MAX_LINE_CHARACTERS) throw new Error("a line of the stream has no end")
    return lines.map((line) => (line === "" ? "" : how.map(line))).join("")
  }

  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        if (how.opening) controller.enqueue(encoder.encode(how.opening))
      },
      async pull(controller) {
        for (;;) {
          reading ??= reader.read()
          const next = await within(reading, silence)
          if (next === "silence") {
            if (how.keepalive !== undefined) return controller.enqueue(encoder.encode(how.keepalive))
            await reader.cancel("nothing came for too long")
            return controller.close()
          }
          reading = undefined
          const text = next.done ? take(`${decoder.decode()}\n`) : take(decoder.decode(next.value, { stream: true }))
          if (text !== "") controller.enqueue(encoder.encode(text))
          if (next.done) return controller.close()
          if (text !== "") return
        }
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  )
}

/** `milliseconds` 0: as long as it takes. */
async function within<T>(promise: Promise<T>, milliseconds: number): Promise<T | "silence"> {
  if (milliseconds === 0) return promise
  let timer: ReturnType<typeof setTimeout> | null = null
  const silence = new Promise<"silence">((resolve) => {
    timer = setTimeout(() => resolve("silence"), milliseconds)
  })
  try {
    return await Promise.race([promise, silence])
  } finally {
    clearTimeout(timer)
  }
}
