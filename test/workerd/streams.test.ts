/** A node's socket outlives its object's memory: what was under way with the node before must not meet what comes after. */
import { afterEach, describe, expect, it, vi } from "vitest"
import { Streams } from "../../durable/node/streams.ts"
import type { LogOptions } from "../../schema/protocol.ts"
import { encodeStreamChunk } from "../../schema/protocol.ts"
import { aCall, aControlPlane, peers } from "../support/control-plane.ts"
import { aCreate } from "../support/factories.ts"
import { waitFor } from "../support/wait-for.ts"

const LOGS: LogOptions = { follow: true, since_ms: null, tail: null, streams: ["stdout", "stderr"], after: null }

afterEach(() => {
  vi.useRealTimers()
})

async function numbersOfANewObject() {
  const { tenant, node } = await aControlPlane()
  const host = await node()
  const { body } = await tenant.createContainer(aCall(), aCreate())
  const { container } = await tenant.wait(body.id, { status: "running", run: null, timeout_ms: 5_000 })
  if (!container.run) throw new Error("no run")
  const nodeObject = peers.node(host.nodeId)
  const logs = await nodeObject.openLogs([container.run.id], LOGS)
  nodeObject.command(container.run.id, { kind: "isolation" }).catch(() => {})
  const stream = await waitFor("the stream", () => host.received.find((message) => message.type === "stream_open"))
  const command = await waitFor("the command", () => host.received.find((message) => message.type === "command"))
  host.close()
  await logs.cancel().catch(() => {})
  return { stream: stream.stream, command: command.id }
}

const frame = (stream: number, text: string) => encodeStreamChunk(stream, new TextEncoder().encode(text)).buffer

describe("streams and commands", () => {
  it("are numbered anew in each life of an object, so that a late frame or answer reaches nobody else", async () => {
    const [one, two] = [await numbersOfANewObject(), await numbersOfANewObject()]
    expect(one.stream).not.toBe(two.stream)
    expect(one.command).not.toBe(two.command)
  })

  it("close a stream that nobody reads any more, when the node still sends it", () => {
    const closed: number[] = []
    const streams = new Streams({ credit: () => {}, closed: (stream) => closed.push(stream) }, 7)
    expect(streams.received(frame(3, "a line\n"))).toBe(true)
    expect(closed).toEqual([3])
  })
})

describe("a silent stream", () => {
  it("shows life between lines, and never inside one", async () => {
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] })
    const streams = new Streams({ credit: () => {}, closed: () => {} }, 7)
    const { stream, readable } = streams.open()
    const reader = readable.getReader()
    let text = ""
    const untilRead = (wanted: string, meanwhile: () => void = () => {}) => {
      const reading = (async () => {
        while (!text.endsWith(wanted)) text += new TextDecoder().decode((await reader.read()).value)
        return true
      })()
      return waitFor(JSON.stringify(wanted), () => {
        meanwhile()
        return Promise.race([reading, false])
      })
    }
    streams.received(frame(stream, '{"a":'))
    await untilRead('{"a":')
    for (let i = 0; i < 3; i++) {
      vi.advanceTimersByTime(60_000)
      await new Promise((resolve) => setTimeout(resolve, 0)) // lets a write that is done say so
    }
    streams.received(frame(stream, "1}\n"))
    await untilRead("1}\n")
    expect(text).toBe('{"a":1}\n')
    await untilRead("\n\n", () => vi.advanceTimersByTime(60_000))
    streams.breakAll()
  })
})
