/** The small decisions of a tenant's object, each a table. */
import { describe, expect, it } from "vitest"
import { MAX_IDLE_CONTAINERS, refusedAdmission } from "../../../durable/tenant/admission.ts"
import { Cells, freeShare, twoOf } from "../../../durable/tenant/cells.ts"
import { dryRunOf, nodesOf } from "../../../durable/tenant/dry-run.ts"
import { isFaulty } from "../../../durable/tenant/faulty.ts"
import { HISTORY_RUNS, remembered } from "../../../durable/tenant/history.ts"
import { NO_USE } from "../../../durable/tenant/use.ts"
import { containerView } from "../../../durable/tenant/view.ts"
import { type WaitVerdict, waitVerdict } from "../../../durable/tenant/wait.ts"
import { Policy, Quota, type Room } from "../../../schema/api.ts"
import type { CellId } from "../../../schema/ids.ts"
import type { RunState } from "../../../schema/lifecycle.ts"
import type { Explanation, TenantConfig } from "../../../durable/shared/rpc.ts"
import { aCreate, anExit, anId } from "../../support/factories.ts"
import { aContainerRow, aGroup, aRunRow } from "../../support/rows.ts"

const aRoom = (changes: Partial<Room> = {}): Room => ({
  nodes: 1, ready_nodes: 1, runs: 0, cpus: 10, free_cpus: 10, memory_bytes: 100, free_memory_bytes: 100, ...changes,
}) // prettier-ignore

describe("what a tenant may ask for", () => {
  const settings = { quota: Quota.parse({ containers: 10, cpus: 4 }), policy: Policy.parse({}) }
  const standing = { used: { ...NO_USE, containers: 8 }, kept: 8, created: 0, taken: [] }

  it("is counted for all of a batch together", () => {
    expect(refusedAdmission(aCreate(), 2, standing, settings)).toBeUndefined()
    expect(refusedAdmission(aCreate(), 3, standing, settings)?.code).toBe("quota_exceeded")
    expect(refusedAdmission(aCreate({ resources: { cpus: 2.5 } }), 2, standing, settings)?.detail).toContain("asks for 5 more")
  })

  it("names the name that is taken", () => {
    const refusal = refusedAdmission(aCreate(), 1, { ...standing, taken: ["web-2"] }, settings)
    expect(refusal).toMatchObject({ code: "name_taken", detail: expect.stringContaining("web-2") })
  })

  it("is bounded in a minute", () => {
    const slow = { ...settings, quota: Quota.parse({ creates_per_minute: 5 }) }
    expect(refusedAdmission(aCreate(), 2, { ...standing, created: 3 }, slow)).toBeUndefined()
    expect(refusedAdmission(aCreate({ start: false }), 3, { ...standing, created: 3 }, slow)?.detail).toContain(
      "creates_per_minute is 5; 3 were",
    )
  })

  it("is bounded for containers that do not run as well", () => {
    const kept = 10 + MAX_IDLE_CONTAINERS - 1
    expect(refusedAdmission(aCreate({ start: false }), 1, { ...standing, kept }, settings)).toBeUndefined()
    expect(refusedAdmission(aCreate({ start: false }), 2, { ...standing, kept }, settings)?.detail).toContain("remove some")
  })
})

describe("the choice of a cell", () => {
  const [a, b, c] = [anId("cel"), anId("cel"), anId("cel")]
  const asked: CellId[] = []
  const cellsWith = (rooms: ReadonlyMap<CellId, Room | Error>, clock = { now: () => 0 }) => {
    const cell = (id: CellId) => ({
      room: async () => {
        asked.push(id)
        const room = rooms.get(id)
        if (room instanceof Error || room === undefined) throw room ?? new Error("no such cell")
        return room
      },
    })
    return new Cells({ cell } as never, clock, () => 0)
  }

  it("asks nobody when there is one, or none", async () => {
    asked.length = 0
    expect(await cellsWith(new Map()).choose([a])).toBe(a)
    expect(await cellsWith(new Map()).choose([])).toBeUndefined()
    expect(asked).toEqual([])
  })

  it("takes two different ones, whatever the number", () => {
    for (let random = 0; random < 20; random++) expect(new Set(twoOf([a, b, c], random)).size).toBe(2)
    expect(new Set(Array.from({ length: 20 }, (_, random) => twoOf([a, b, c], random).toSorted().join())).size).toBe(3)
  })

  it("prefers the one with the greater free share, and the one that answers", async () => {
    expect(await cellsWith(new Map([[a, aRoom({ free_cpus: 2 })], [b, aRoom({ free_cpus: 3 })]])).choose([a, b])).toBe(b) // prettier-ignore
    expect(await cellsWith(new Map<CellId, Room | Error>([[a, new Error("gone")], [b, aRoom({ free_cpus: 0 })]])).choose([a, b])).toBe(b) // prettier-ignore
  })

  it("believes a cell for some seconds", async () => {
    asked.length = 0
    let now = 0
    const cells = cellsWith(new Map([[a, aRoom()], [b, aRoom()]]), { now: () => now }) // prettier-ignore
    await cells.choose([a, b])
    await cells.choose([a, b])
    expect(asked).toHaveLength(2)
    now = 60_000
    await cells.choose([a, b])
    expect(asked).toHaveLength(4)
  })

  it("goes by the scarcer of processors and memory, and by ready nodes alone", () => {
    expect(freeShare(aRoom({ free_memory_bytes: 25 }))).toBe(0.25)
    expect(freeShare(aRoom({ ready_nodes: 0 }))).toBe(0)
    expect(freeShare(aRoom({ cpus: 0, free_cpus: 0 }))).toBe(0)
  })
})

const aNode = (cell_id: CellId, reason: string | null) => ({ node_id: anId("nod"), cell_id, reason, score: null, scores: {} })

const explained = (cell: CellId, reasons: (string | null)[], region: string): Explanation => {
  const fitting = reasons.filter((reason) => reason === null).length
  const refused = reasons.filter((reason) => reason !== null).map((reason) => ({ reason, nodes: 1 }))
  return { nodes: reasons.map((reason) => aNode(cell, reason)), region: fitting > 0 ? region : null, fitting, refused }
}

describe("a dry run", () => {
  const [a, b] = [anId("cel"), anId("cel")]
  const settings = { cells: [a, b] } as unknown as TenantConfig
  it("adds up what the cells say, and takes the region of the one that would be asked first, where it has room", () => {
    const both = [explained(a, [null, "is not ready"], "eu-1"), explained(b, [null, "is not ready"], "eu-2")]
    expect(dryRunOf(aCreate(), both, settings, b)).toEqual({
      placeable: true, fitting_nodes: 2, node_region: "eu-2", refused: [{ reason: "is not ready", nodes: 2 }], warnings: [],
    }) // prettier-ignore
    const one = [explained(a, [null], "eu-1"), explained(b, ["is not ready"], "eu-2")]
    expect(dryRunOf(aCreate(), one, settings, b)).toMatchObject({ node_region: "eu-1" })
    expect(dryRunOf(aCreate(), [], { ...settings, cells: [] }, undefined)).toMatchObject({ placeable: false, node_region: null })
  })

  it("puts the nodes of the cell that would be asked first before others, and those that do not fit last", () => {
    const both = [explained(a, ["is not ready", null], "eu-1"), explained(b, ["is not ready", null], "eu-2")]
    const { node_id, nodes } = nodesOf(both, b)
    expect(nodes.map(({ cell_id, reason }) => [cell_id, reason === null])).toEqual([[b, true], [a, true], [a, false], [b, false]]) // prettier-ignore
    expect(node_id).toBe(nodes[0]?.node_id)
    expect(nodesOf([explained(a, ["is not ready"], "eu-1")], a).node_id).toBeNull()
  })
})

describe("what speaks against a node", () => {
  it.each<[string, RunState, string | null, "process" | "tenant" | "platform" | "host", boolean]>([
    ["a run that was given up", "orphaned", "deadline_exceeded", "platform", true],
    ["one that its host lost", "failed", "process_lost", "host", true],
    ["one that its host could not start", "rejected", "node_fault", "process", true],
    ["one whose image there is not", "rejected", "image_not_found", "process", false],
    ["one that failed by itself", "failed", "exited", "process", false],
    ["one that used too much memory", "failed", "oom_killed", "process", false],
    ["one that a drained host stopped", "stopped", "host_shutdown", "host", false],
    ["one that ended well", "completed", null, "process", false],
  ])("%s: %s, %s", (_, state, code, by, faulty) => {
    const reason = code === null ? null : { code, message: "" }
    expect(isFaulty(aRunRow(aContainerRow(), { state, reason, exit: anExit({ by }) }))).toBe(faulty)
  })

  it("is nothing that never came to one", () => {
    expect(isFaulty(aRunRow(aContainerRow(), { node_id: null, state: "orphaned" }))).toBe(false)
  })
})

describe("the history", () => {
  it("keeps the last ten ended runs, oldest first", () => {
    let container = aContainerRow()
    const runs = Array.from({ length: HISTORY_RUNS + 2 }, (_, i) =>
      aRunRow(container, { state: "failed", attempt: i + 1, finished_at_ms: 1_000 * i }),
    )
    for (const run of runs) container = remembered(container, run)
    expect(container.history.map(({ attempt }) => attempt)).toEqual([3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
    expect(container.history[0]).toMatchObject({ run_id: runs[2]?.id, ended_at: "1970-01-01T00:00:02.000Z" })
  })
})

const verdict = (
  wish: Parameters<typeof aContainerRow>[0],
  state: RunState | null,
  wanted: Parameters<typeof waitVerdict>[1],
) => {
  const { container, run } = aGroup(wish, state === null ? {} : { state })
  const row = { ...container, latest_run_id: state === null ? null : run.id, ...wish }
  return waitVerdict(containerView(row, state === null ? undefined : run, Policy.parse({})), wanted, undefined)
}

describe("a wait", () => {
  it.each<[string, Parameters<typeof aContainerRow>[0], RunState | null, Parameters<typeof waitVerdict>[1], WaitVerdict]>([
    ["to run, of one that starts", {}, "starting", "running", "not_yet"],
    ["to run, of one that has ended for good", {}, "completed", "running", "never"],
    ["to run, of one that was lost for good", {}, "orphaned", "running", "never"],
    ["to run, of one that is about to start again", { next_run_at_ms: 9e14 }, "failed", "running", "not_yet"],
    ["to run, of one that was only created", { desired: "stopped" }, null, "running", "never"],
    ["to run, of one that is being removed", { desired: "removed" }, "running", "running", "not_yet"],
    ["to exit, of one that runs", {}, "running", "exited", "not_yet"],
    ["to exit, of one that has", {}, "failed", "exited", "reached"],
    ["to be gone, of one that has ended: a call may be under way", {}, "failed", "removed", "not_yet"],
    ["to settle, of one that was created", { desired: "stopped" }, null, "settled", "reached"],
  ])("%s", (_, wish, state, wanted, expected) => {
    expect(verdict(wish, state, wanted)).toBe(expected)
  })
})
