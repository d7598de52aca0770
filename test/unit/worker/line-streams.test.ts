import { afterEach, beforeEach, describe, expect, it, vi } from "vitest"
import { KEEPALIVE_SECONDS, mapLines } from "../../../worker/line-streams.ts"

const encoder = new TextEncoder()
const decoder = new TextDecoder()
/** A source that counts how often it is asked, and gives its chunks one by one. */
function source(chunks: string[], end = true) {
  const state = { pulls: 0, cancelled: false }
  const left = [...chunks]
  const stream = new ReadableStream<Uint8Array>(
    {
      pull(controller) {
        state.pulls++
        const next = left.shift()
        if (next !== undefined) return controller.enqueue(encoder.encode(next))
        if (end) return controller.close()
        return new Promise<void>(() => {})
      },
      cancel() {
        state.cancelled = true
      },
    },
    { highWaterMark: 0 },
  )
  return { stream, state }
}
const upper = { map: (line: string) => `${line.toUpperCase()}\n` }
const all = (stream: ReadableStream<Uint8Array>) => new Response(stream).text()

describe("mapping lines", () => {
  it("maps whole lines, however they were cut, and the last one without a line end", async () => {
    const snowman = encoder.encode("☃")
    const { stream } = source(["on", "e\ntw", "o\n\nthree"])
    expect(await all(mapLines(stream, upper))).toBe("ONE\nTWO\nTHREE\n")
    const cut = new ReadableStream<Uint8Array>({
      start(controller) {
        controller.enqueue(snowman.slice(0, 1))
        controller.enqueue(snowman.slice(1))
        controller.close()
      },
    })
    expect(await all(mapLines(cut, upper))).toBe("☃\n")
  })

  it("sends its opening before anything was read", async () => {
    const { stream, state } = source(["x\n"])
    const reader = mapLines(stream, { ...upper, opening: "hi\n" }).getReader()
    expect(decoder.decode((await reader.read()).value)).toBe("hi\n")
    expect(state.pulls).toBe(0)
  })

  it("reads no further than its reader does", async () => {
    const { stream, state } = source(Array.from({ length: 100 }, (_, i) => `${i}\n`))
    const reader = mapLines(stream, upper).getReader()
    await reader.read()
    await reader.read()
    expect(state.pulls).toBe(2)
  })

  it("cancels its source when the reader leaves", async () => {
    const { stream, state } = source([], false)
    await mapLines(stream, upper).cancel()
    expect(state.cancelled).toBe(true)
  })

  it("fails when a line cannot be mapped", async () => {
    const { stream } = source(["not json\n"])
    await expect(all(mapLines(stream, { map: (line) => JSON.parse(line) as string }))).rejects.toThrow()
  })
})

describe("silence", () => {
  beforeEach(() => void vi.useFakeTimers())
  afterEach(() => void vi.useRealTimers())

  it("is broken by keepalives, and no line is lost to them", async () => {
    const { readable: stream, writable } = new TransformStream<Uint8Array, Uint8Array>()
    const writer = writable.getWriter()
    const reader = mapLines(stream, { ...upper, keepalive: ": still here\n" }).getReader()
    for (let i = 0; i < 2; i++) {
      const read = reader.read()
      await vi.advanceTimersByTimeAsync(KEEPALIVE_SECONDS * 1000)
      expect(decoder.decode((await read).value)).toBe(": still here\n")
    }
    void writer.write(encoder.encode("line\n"))
    expect(decoder.decode((await reader.read()).value)).toBe("LINE\n")
  })

  it("ends a stream that has no keepalives, after its idle time", async () => {
    const { stream, state } = source([], false)
    const read = mapLines(stream, { ...upper, idleSeconds: 60 })
      .getReader()
      .read()
    await vi.advanceTimersByTimeAsync(60_000)
    expect((await read).done).toBe(true)
    expect(state.cancelled).toBe(true)
  })
})
