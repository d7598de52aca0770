import { describe, expect, it } from "vitest"
import { mergeGone, mergeObservation } from "../../../durable/tenant/observe.ts"
import { anExit, anObservation } from "../../support/factories.ts"
import { aContainerRow, aRunRow } from "../../support/rows.ts"

const NOW = 90_000
const aRun = (changes = {}) => aRunRow(aContainerRow(), { state: "starting", started_at_ms: null, ...changes })
const merge = (run: ReturnType<typeof aRun>, changes: object) =>
  mergeObservation(run, anObservation(run.id, { revision: 2, ...changes }), NOW)

describe("an observation", () => {
  it("that is older or the same is ignored", () => {
    const run = aRun({ state: "running", revision: 2 })
    expect(merge(run, { state: "starting", revision: 9 })).toBeUndefined()
    expect(merge(run, { state: "running", revision: 2 })).toBeUndefined()
  })

  it("may not orphan a run, nor move one that is not placed", () => {
    expect(merge(aRun(), { state: "orphaned" })).toBeUndefined()
    expect(merge(aRun({ state: "pending" }), { state: "running" })).toBeUndefined()
  })

  it("changes nothing of a run that has ended or was given up", () => {
    expect(merge(aRun({ state: "orphaned" }), { state: "completed" })).toBeUndefined()
    expect(merge(aRun({ state: "completed" }), { state: "failed" })).toBeUndefined()
  })

  it("has its times taken as lying between the run's making and now", () => {
    expect(merge(aRun(), { started_at_ms: 9e15 })?.started_at_ms).toBe(NOW)
    expect(merge(aRun(), { started_at_ms: -5 })?.started_at_ms).toBe(1_000)
  })

  it("keeps the platform's own timings, and few of the node's", () => {
    const flood = Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`step${i}`, i]))
    const merged = merge(aRun({ timings: { placed: 3 } }), { timings: { placed: 99, ...flood } })
    expect(merged?.timings.placed).toBe(3)
    expect(Object.keys(merged?.timings ?? {})).toHaveLength(33)
  })

  it("takes only what is a digest for one", () => {
    expect(merge(aRun({ image_digest: "sha256:old" }), { image_digest: "latest" })?.image_digest).toBe("sha256:old")
  })

  it("of an end keeps its exit", () => {
    const merged = merge(aRun({ state: "running" }), { state: "failed", exit: anExit({ code: 137, oom_killed: true }) })
    expect(merged).toMatchObject({ state: "failed", finished_at_ms: NOW, exit: { code: 137, oom_killed: true } })
  })
})

describe("a run that is gone from its node", () => {
  it("is no longer present once it has ended", () => {
    expect(mergeGone(aRun({ state: "completed" }), NOW)).toMatchObject({ state: "completed", present: false })
    expect(mergeGone(aRun({ state: "completed", present: false }), NOW)).toBeUndefined()
  })

  it("has failed by the host's doing when nobody had asked for its end", () => {
    expect(mergeGone(aRun({ state: "running" }), NOW)).toMatchObject({
      state: "failed",
      exit: { by: "host" },
      reason: { code: "host_lost_run" },
    })
    expect(mergeGone(aRun({ state: "preparing" }), NOW)?.state).toBe("rejected")
    expect(mergeGone(aRun({ state: "running", wish_desired: "removed" }), NOW)).toMatchObject({
      state: "stopped",
      exit: { by: "tenant" },
    })
  })
})
