import { mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, it, onTestFinished } from "vitest"
import { logTail, readLog } from "../../../node-bridge/runtime/log-reader.ts"
import type { LogOptions } from "../../../schema/protocol.ts"
import { anId } from "../../support/factories.ts"
import { temporaryDir } from "../../support/temporary-dir.ts"

const PREFIX = "2026-11-23T20:00:00.123456789+00:00"

async function aLog(text: string) {
  const dir = await temporaryDir()
  onTestFinished(() => dir[Symbol.asyncDispose]())
  const logsDir = join(dir.path, "log")
  mkdirSync(logsDir)
  writeFileSync(join(logsDir, "current"), text)
  const source = { runId: anId("run"), logsDir, ended: () => true }
  const read = (options: Partial<LogOptions>, signal = new AbortController().signal) =>
    readLog(source, { follow: false, since_ms: null, tail: null, streams: ["stdout", "stderr"], after: null, ...options }, signal)
  return { read, logsDir }
}

/** Turns of the event loop that others got while `work` went on. */
async function turnsDuring(work: () => Promise<unknown>): Promise<number> {
  let turns = 0
  const tick = () => {
    turns++
    next = setImmediate(tick)
  }
  let next = setImmediate(tick)
  await work()
  clearImmediate(next)
  return turns
}

async function all(entries: AsyncIterable<{ text: string }>): Promise<string[]> {
  const texts: string[] = []
  for await (const { text } of entries) texts.push(text)
  return texts
}

describe("a long log", () => {
  const many = `${PREFIX} stderr F first\n${`${PREFIX} stdout F \n`.repeat(20_000)}`

  it.each([
    ["a tail that is not there", { tail: 2, streams: ["stderr"] }],
    ["lines of the other stream", { streams: ["stderr"] }],
    ["lines after a time", { since_ms: Date.parse("2030-01-01") }],
    ["every line", {}],
  ] as const)("lets others have their turn while it is searched for %s", async (_, options) => {
    const { read } = await aLog(many)
    expect(
      await turnsDuring(() =>
        all(read({ ...options, streams: [...("streams" in options ? options.streams : ["stdout" as const])] })),
      ),
    ).toBeGreaterThan(10)
  })

  it("is found through from its end: the last lines of one stream", async () => {
    const { read } = await aLog(many)
    expect(await all(read({ tail: 2, streams: ["stderr"] }))).toEqual(["first"])
  })

  it("is let go of when nobody wants it any more", async () => {
    const { read } = await aLog(many)
    const gone = new AbortController()
    const reading = all(read({ tail: 2, streams: ["stderr"] }, gone.signal))
    gone.abort(new Error("gone"))
    await expect(reading).rejects.toThrow("gone")
  })

  it("made of parts that never become a line is not read through for the record of an exit", async () => {
    const { logsDir } = await aLog(`${PREFIX} stdout F early\n${`${PREFIX} stdout P x\n`.repeat(20_000)}`)
    expect(logTail(logsDir, 10, 100)).toEqual(["x".repeat(100)])
  })
})
