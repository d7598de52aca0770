import { expect, it } from "vitest"
import { MAX_STREAMS_PER_TENANT, Streams } from "../../../node-bridge/agent/streams.ts"
import type { StreamsDeps } from "../../../node-bridge/agent/streams.ts"
import { silentLog } from "../../../node-bridge/log.ts"
import type { LogOptions, NodeMessage } from "../../../schema/protocol.ts"
import { anId } from "../../support/factories.ts"

const LOGS: LogOptions = { follow: true, since_ms: null, tail: null, streams: ["stdout"], after: null }

it("one tenant cannot take the log streams of all others", () => {
  const [greedy, other] = [anId("run"), anId("run")]
  const tenants = new Map([greedy, other].map((run) => [run, anId("ten")]))
  const sent: NodeMessage[] = []
  const silence: AsyncIterator<never> = { next: () => new Promise(() => {}) }
  const logs = () => ({ [Symbol.asyncIterator]: () => silence })
  const streams = new Streams({
    controller: { logs } as unknown as StreamsDeps["controller"],
    log: silentLog,
    tenantOf: (run) => tenants.get(run),
    send: (message) => sent.push(message),
    sendBytes: () => {},
  })
  const open = (stream: number, run: typeof greedy) =>
    streams.received({ type: "stream_open", stream, run_ids: [run], logs: LOGS, credit_bytes: 1024 })
  for (let stream = 1; stream <= MAX_STREAMS_PER_TENANT; stream++) open(stream, greedy)
  expect(sent).toEqual([])
  open(1000, greedy)
  open(1001, other)
  expect(sent).toMatchObject([{ type: "stream_end", stream: 1000, error: { code: "too_many_streams" } }])
  streams.closeAll()
})
