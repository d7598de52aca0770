import { beforeEach, describe, expect, it } from "vitest"
import { observationOf } from "../../../node-bridge/agent/record.ts"
import type { RunRecord } from "../../../node-bridge/agent/record.ts"
import { Reporter } from "../../../node-bridge/agent/reporter.ts"
import type { RunState } from "../../../schema/lifecycle.ts"
import type { NodeMessage } from "../../../schema/protocol.ts"
import { aRecord } from "../../support/assignments.ts"

type Report = NodeMessage & { type: "report" }

let sent: Report[]
let reporter: Reporter
/** The moment that news waits, passing or not, is over. */
let ripen: () => void
const record = aRecord()
const at = (state: RunState, revision: number, of: RunRecord = record) => observationOf({ ...of, state, revision })
const states = () => sent.map(({ observations }) => observations.map(({ state }) => state))
const REASON = { code: "disk_full", message: "It is full." }
const turn = () => Promise.resolve()

beforeEach(() => {
  sent = []
  ripen = () => {}
  reporter = new Reporter({
    after: (_ms, callback) => {
      ripen = callback
      return () => (ripen = () => {})
    },
  })
})

describe("the reporter", () => {
  it("puts the passing news of a moment into one report", async () => {
    reporter.attach((report) => sent.push(report))
    await turn()
    reporter.observe(at("accepted", 1))
    reporter.observe(at("preparing", 2))
    reporter.observe(at("accepted", 1, aRecord()))
    await turn()
    expect(sent).toEqual([])
    ripen()
    expect(states()).toEqual([["preparing", "accepted"]])
  })

  it("lets passing states wait for the report before, and what counts only for a moment", async () => {
    reporter.attach((report) => sent.push(report))
    reporter.observe(at("preparing", 2))
    ripen()
    reporter.observe(at("starting", 4))
    ripen()
    expect(states()).toEqual([["preparing"]])
    reporter.observe(at("running", 5))
    await turn()
    expect(states()).toEqual([["preparing"]])
    ripen()
    expect(states()).toEqual([["preparing"], ["running"]])
  })

  it("puts into one report what came while another was on its way", async () => {
    reporter.attach((report) => sent.push(report))
    reporter.observe(at("running", 5))
    await turn()
    for (let i = 0; i < 3; i++) {
      reporter.observe(at("running", 5, aRecord()))
      await turn()
    }
    expect(states()).toEqual([["running"]])
    reporter.acknowledged(1)
    expect(states()).toEqual([["running"], ["running", "running", "running"]])
  })

  it("sends a passing state when the report before it is acknowledged", async () => {
    reporter.attach((report) => sent.push(report))
    reporter.observe(at("preparing", 2))
    ripen()
    reporter.observe(at("starting", 4))
    ripen()
    reporter.acknowledged(1)
    expect(states()).toEqual([["preparing"], ["starting"]])
  })

  it("says nothing of a start that goes well but that it runs", async () => {
    reporter.attach((report) => sent.push(report))
    await turn()
    for (const [revision, state] of (["accepted", "preparing", "ready", "starting", "running"] as const).entries()) {
      reporter.observe(at(state, revision))
      await turn()
    }
    ripen()
    expect(states()).toEqual([["running"]])
  })

  it("says that a run ran though it ended before there was room to say so", async () => {
    reporter.attach((report) => sent.push(report))
    await turn()
    for (let i = 0; i < 8; i++) {
      reporter.observe(at("running", 1, aRecord()))
      await turn()
      ripen()
    }
    reporter.observe(at("starting", 4))
    reporter.observe(at("running", 5))
    reporter.observe(at("completed", 6))
    await turn()
    ripen()
    expect(sent).toHaveLength(8)
    reporter.acknowledged(1)
    expect(states().at(-1)).toEqual(["running", "completed"])
  })

  it("says in the next session that a run ran, and that it ended, when neither was acknowledged", async () => {
    reporter.attach((report) => sent.push(report))
    reporter.observe(at("running", 5))
    await turn()
    reporter.observe(at("completed", 6))
    await turn()
    ripen()
    expect(states()).toEqual([["running"], ["completed"]])
    reporter.attach((report) => sent.push(report))
    reporter.observe(at("completed", 6))
    await turn()
    expect(states().at(-1)).toEqual(["running", "completed"])
  })

  it("never goes back: an older observation is dropped", async () => {
    reporter.attach((report) => sent.push(report))
    reporter.observe(at("running", 5))
    reporter.observe(at("starting", 4))
    await turn()
    expect(states()).toEqual([["running"]])
  })

  it("says again in the next session what was not acknowledged, in its newest form", async () => {
    reporter.attach((report) => sent.push(report))
    reporter.observe(at("accepted", 1))
    ripen()
    reporter.detach()
    reporter.observe(at("rejected", 6))
    reporter.attach((report) => sent.push(report))
    await turn()
    expect(states()).toEqual([["accepted"], ["rejected"]])
    reporter.detach()
    reporter.attach((report) => sent.push(report))
    await turn()
    expect(states().at(-1)).toEqual(["rejected"])
  })

  it("says that a run is gone not before its last observation, and until it is acknowledged", async () => {
    const { run_id } = record.assignment
    reporter.observe(at("stopped", 7))
    reporter.gone(run_id)
    reporter.attach((report) => sent.push(report))
    await turn()
    expect(sent).toMatchObject([{ observations: [{ state: "stopped" }], gone: [run_id] }])
    reporter.detach()
    reporter.attach((report) => sent.push(report))
    await turn()
    expect(sent.at(-1)?.gone).toEqual([run_id])
  })

  it("tells a notice at once, and again until it is acknowledged", async () => {
    const notice = { id: "n1", run_id: record.assignment.run_id, kind: "disk_full" as const, at_ms: 1, reason: REASON }
    reporter.notice(notice, record.assignment.tenant_id)
    reporter.attach((report) => sent.push(report))
    await turn()
    expect(sent).toMatchObject([{ observations: [], notices: [notice] }])
    reporter.detach()
    reporter.attach((report) => sent.push(report))
    await turn()
    expect(sent[1]?.notices).toEqual([notice])
    reporter.acknowledged(2)
    reporter.detach()
    reporter.attach((report) => sent.push(report))
    await turn()
    expect(sent).toHaveLength(2)
  })

  it("keeps the newest notices when the platform stays away", async () => {
    const { run_id } = record.assignment
    const { tenant_id } = record.assignment
    for (let i = 0; i < 5_001; i++)
      reporter.notice({ id: `n${i}`, run_id, kind: "disk_full", at_ms: i, reason: REASON }, tenant_id)
    reporter.attach((report) => sent.push(report))
    await turn()
    for (let seq = 1; seq <= 25; seq++) reporter.acknowledged(seq)
    const told = sent.flatMap(({ notices }) => notices.map(({ id }) => id))
    expect(told).toHaveLength(5_000)
    expect(told[0]).toBe("n1")
  })

  it("cuts a large report in parts, and has few on their way", async () => {
    for (let i = 0; i < 2000; i++) reporter.observe(at("running", 5, aRecord()))
    reporter.attach((report) => sent.push(report))
    await turn()
    expect(sent.map(({ observations }) => observations.length)).toEqual(Array(8).fill(200))
    reporter.acknowledged(1)
    expect(sent).toHaveLength(9)
  })

  it("is idle when everything was acknowledged", async () => {
    reporter.attach((report) => sent.push(report))
    reporter.observe(at("running", 5))
    let idle = false
    const waiting = reporter.idle().then(() => (idle = true))
    await turn()
    expect(idle).toBe(false)
    reporter.acknowledged(1)
    await waiting
    expect(idle).toBe(true)
  })
})
