import * as fc from "fast-check"
import { describe, expect, it } from "vitest"
import { countRefusals } from "../../../durable/cell/explain.ts"
import { CapacityLedger } from "../../../durable/cell/ledger.ts"
import type { NodeState } from "../../../durable/cell/node-state.ts"
import { Placing } from "../../../durable/cell/placing.ts"
import { Refusals } from "../../../durable/cell/refusals.ts"
import { schedule } from "../../../durable/cell/schedule.ts"
import type { ReservationRow } from "../../../durable/cell/store.ts"
import type { TenantId } from "../../../schema/ids.ts"
import { anId, GIB } from "../../support/factories.ts"
import { anAsk, aNodeRow, aSearch, someResources } from "../../support/cell.ts"

const TENANTS: readonly TenantId[] = [anId("ten"), anId("ten")]
const GROUPS = ["web", "db"]

const node = fc.record({
  cpus: fc.integer({ min: 1, max: 4 }),
  memory: fc.integer({ min: 1, max: 4 }),
  runs: fc.integer({ min: 1, max: 6 }),
  gpus: fc.integer({ min: 0, max: 2 }),
  zone: fc.constantFrom("a", "b", null),
  kept: fc.boolean(),
})
const ask = fc.record({
  cpus: fc.constantFrom(0.1, 0.3, 1, 2.5),
  memory: fc.integer({ min: 1, max: 2 }),
  gpus: fc.constantFrom(0, 0, 0, 1),
  tenant: fc.constantFrom(...TENANTS),
  group: fc.option(fc.constantFrom(...GROUPS), { nil: undefined }),
  spreadBy: fc.constantFrom("node", "zone", null),
  limit: fc.integer({ min: 1, max: 3 }),
  averse: fc.subarray(GROUPS),
  count: fc.integer({ min: 1, max: 4 }),
})
/** Few kinds, which are asked for again and again. */
const usual: typeof ask = fc.record({
  cpus: fc.constantFrom(1, 2.5),
  memory: fc.constant(1),
  gpus: fc.constant(0),
  tenant: fc.constantFrom(...TENANTS.slice(0, 1)),
  group: fc.constant(undefined),
  spreadBy: fc.constant(null),
  limit: fc.constant(1),
  averse: fc.constant([]),
  count: fc.integer({ min: 1, max: 4 }),
})
const step = fc.oneof(
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("ask" as const), ask }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("ask" as const), ask: usual }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("release" as const), which: fc.nat() }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("ready" as const), which: fc.nat(), ready: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("register" as const), which: fc.nat(), node }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("forget" as const), which: fc.nat() }) },
)
type Node = typeof node extends fc.Arbitrary<infer T> ? T : never
type Asked = typeof ask extends fc.Arbitrary<infer T> ? T : never

const rowOf = ({ cpus, memory, runs, gpus, zone, kept }: Node) =>
  aNodeRow({
    capacity: { cpus, memory_bytes: memory * GIB, pids: 1e6, runs, disk_bytes: 1e15 },
    labels: zone === null ? {} : { zone },
    exclusive_to: kept ? TENANTS.slice(0, 1) : null,
    devices: Array.from({ length: gpus }, (_, i) => ({
      name: `nvidia.com/gpu=${i}`,
      healthy: true,
      reason: null,
      parent: null,
    })),
  })
const askOf = ({ cpus, memory, gpus, tenant, group, spreadBy, limit, averse, count }: Asked) =>
  anAsk({
    run_ids: Array.from({ length: count }, () => anId("run")),
    tenant_id: tenant,
    resources: someResources({
      cpus,
      memory_bytes: memory * GIB,
      accelerators: gpus === 0 ? [] : [{ kind: "nvidia.com/gpu", count: gpus }],
    }),
    placement: {
      group,
      spread: group === undefined || spreadBy === null ? undefined : { by: spreadBy, limit },
      anti_affinity: averse,
    },
  })

const at = <T>(all: readonly T[], which: number): T | undefined => all[which % Math.max(1, all.length)]

/** A cell as its object drives one, without SQL. */
class Cell {
  readonly ledger = new CapacityLedger()
  readonly refusals = new Refusals()
  readonly held: ReservationRow[] = []
  /** Nodes made smaller than what they held, and those whose labels changed under a group, may hold more than they would get. */
  readonly shrunk = new Set<string>()
  #start = 0

  place(asked: Asked): void {
    const wanted = askOf(asked)
    const search = aSearch(this.ledger, wanted)
    for (const run of wanted.run_ids) {
      const fits = this.ledger.nodes.filter((one) => countRefusals([one], aSearch(this.ledger, wanted)).length === 0)
      const batch = new Placing(this.ledger, new Map(), this.#start)
      const standing = this.refusals.get(search) !== undefined
      expect(standing && fits.length > 0, "a refusal stands though a node fits").toBe(false)
      const place = batch.place(run, search)
      this.#start = batch.start
      expect(place !== undefined, "the search finds a node if and only if one fits").toBe(fits.length > 0)
      if (place === undefined) this.refusals.add(search, [])
      else expect(fits.map(({ id }) => id)).toContain(place.node_id)
      this.held.push(...batch.booked)
    }
  }

  release(which: number): void {
    const row = at(this.held, which)
    if (row === undefined) return
    this.held.splice(this.held.indexOf(row), 1)
    const freed = this.ledger.credit(row.node_id, row)
    if (freed) this.refusals.changed(freed)
  }

  ready(which: number, ready: boolean): void {
    const one = at(this.ledger.nodes, which)
    if (one === undefined) return
    this.ledger.setReady(one.id, ready)
    this.refusals.changed(one)
  }

  register(which: number, changed: Node): void {
    const one = at(this.ledger.nodes, which)
    if (one === undefined) return
    this.shrunk.add(one.id)
    this.refusals.changed(this.ledger.put({ ...rowOf(changed), node_id: one.id }))
  }

  forget(which: number): void {
    const one = at(this.ledger.nodes, which)
    if (one === undefined) return
    this.ledger.forget(one.id)
    for (const row of this.held.filter((held) => held.node_id === one.id)) this.held.splice(this.held.indexOf(row), 1)
  }

  check(): void {
    for (const one of this.ledger.nodes) {
      const rows = this.held.filter((row) => row.node_id === one.id)
      expect(one.used).toEqual(usedBy(rows))
      expect([...one.taken].toSorted()).toEqual(rows.flatMap((row) => row.devices ?? []).toSorted())
      if (!this.shrunk.has(one.id)) expectWithinCapacity(one)
    }
  }
}

const usedBy = (rows: readonly ReservationRow[]) => ({
  runs: rows.length,
  cpus: Math.round(rows.reduce((sum, row) => sum + row.cpus, 0) * 1000) / 1000,
  memory_bytes: rows.reduce((sum, row) => sum + row.memory_bytes, 0),
  pids: rows.reduce((sum, row) => sum + row.pids, 0),
  disk_bytes: rows.reduce((sum, row) => sum + row.disk_bytes, 0),
})

function expectWithinCapacity({ used, capacity, taken, shelf }: NodeState): void {
  expect(used.runs).toBeLessThanOrEqual(capacity.runs)
  expect(used.cpus).toBeLessThanOrEqual(capacity.cpus)
  expect(used.memory_bytes).toBeLessThanOrEqual(capacity.memory_bytes)
  expect(taken.size).toBeLessThanOrEqual(shelf.byName.size)
}

describe("a cell, whatever is done to it", () => {
  it("books no more than there is, counts what it holds, and refuses only what no node would take", () => {
    fc.assert(
      fc.property(fc.array(node, { minLength: 1, maxLength: 40 }), fc.array(step, { maxLength: 60 }), (nodes, steps) => {
        const cell = new Cell()
        for (const one of nodes) cell.ledger.put(rowOf(one))
        for (const one of steps) {
          if (one.kind === "ask") cell.place(one.ask)
          if (one.kind === "release") cell.release(one.which)
          if (one.kind === "ready") cell.ready(one.which, one.ready)
          if (one.kind === "register") cell.register(one.which, one.node)
          if (one.kind === "forget") cell.forget(one.which)
        }
        cell.check()
      }),
      { numRuns: 300 },
    )
  })

  it("keeps spread limits and groups apart", () => {
    fc.assert(
      fc.property(fc.array(node, { minLength: 1, maxLength: 20 }), fc.array(ask, { maxLength: 40 }), (nodes, asks) => {
        const cell = new Cell()
        for (const one of nodes) cell.ledger.put(rowOf({ ...one, cpus: 4, memory: 4, runs: 6 }))
        for (const one of asks) cell.place({ ...one, cpus: 0.1, memory: 1, limit: 1, spreadBy: "node" })
        for (const { id } of cell.ledger.nodes) {
          const rows = cell.held.filter((row) => row.node_id === id)
          const groups = rows.flatMap(({ group }) => group ?? [])
          expect(new Set(groups).size).toBe(groups.length)
          for (const row of rows)
            for (const other of rows) if (other !== row) expect(row.anti_affinity ?? []).not.toContain(other.group)
        }
      }),
      { numRuns: 200 },
    )
  })

  it("finds the best of all where the sample is all", () => {
    fc.assert(
      fc.property(fc.array(node, { minLength: 1, maxLength: 30 }), ask, fc.nat(), (nodes, asked, start) => {
        const ledger = new CapacityLedger()
        for (const one of nodes) ledger.put(rowOf(one))
        const search = aSearch(ledger, askOf(asked))
        const run = anId("run")
        const found = [start, start + 1].map((from) => schedule(ledger.blocks, search, run, from, Infinity).node)
        expect(found[0]).toBe(found[1])
      }),
      { numRuns: 200 },
    )
  })
})
