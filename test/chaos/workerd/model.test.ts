/**
 * Random operations with random faults come to what a simple model without faults says: status, quota in use, reservations.
 * fast-check makes the operations of one run smaller until the least that fails is left; the seed makes all of it again.
 */
import { runInDurableObject } from "cloudflare:test"
import * as fc from "fast-check"
import { expect, inject, it } from "vitest"
import { Quota } from "../../../schema/api.ts"
import type { ContainerCreate } from "../../../schema/container.ts"
import { asAppError, ERRORS } from "../../../schema/errors.ts"
import type { CellId, ContainerId, NodeId, TenantId } from "../../../schema/ids.ts"
import { aCall, peers, stubs } from "../../support/control-plane.ts"
import { aCreate, GIB } from "../../support/factories.ts"
import { type Act, acted, afterDrain, afterLoss, type Kind, type ModelContainer, type Rest } from "./model.ts"
import { restless } from "./final.ts"
import { type Rates, World } from "./world.ts"

/** No node is away for so long that its lease lapses, but where an operation says so. */
const ROUGH: Rates = {
  call: 0.03, frame: 0.01, alarm: 0.2, eviction: 0.05, abort: 0.03, cut: 0.01, bridgeKilled: 0.01, hostRebooted: 0,
  oldVersion: 0.02,
} // prettier-ignore
const LONGEST_MS = 6_000

const CAPACITY = { cpus: 64, memory_bytes: 64 * GIB, pids: 100_000, runs: 500, disk_bytes: 1000 * GIB }
const QUOTA = Quota.parse({ containers: 12, cpus: 100, memory_bytes: 100 * GIB, creates_per_minute: 1_000_000 })
const FIRST_NODES = 3
const TICK_MS = 500
/** Virtual seconds in which a step comes to rest: a drain's deadline, a lease, deadlines of runs, and their retries. */
const AT_REST_IN_S = 300
const LAPSE_S = 60
const DRAIN_MS = 5_000

type Step =
  | {
      readonly kind: "create"
      readonly what: Kind
      readonly count: number
      readonly start: boolean
      readonly startFirst: boolean
    }
  | { readonly kind: "act"; readonly on: number; readonly act: Act }
  | { readonly kind: "join" }
  | { readonly kind: "cordon" | "uncordon" | "drain" | "leave" | "lapse"; readonly node: number }

const steps = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.record({
      kind: fc.constant("create" as const), what: fc.constantFrom<Kind>("service", "once", "lasting"),
      count: fc.oneof(fc.constant(1), fc.integer({ min: 2, max: 6 })), start: fc.boolean(), startFirst: fc.boolean(),
    }) },
    { weight: 6, arbitrary: fc.record({
      kind: fc.constant("act" as const), on: fc.nat(1000),
      act: fc.constantFrom<Act>("start", "restart", "stop", "kill", "remove", "remove_by_force"),
    }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("join" as const) }) },
    { weight: 3, arbitrary: fc.record({
      kind: fc.constantFrom("cordon", "uncordon", "drain", "leave", "lapse"), node: fc.nat(1000),
    }) },
  ),
  { minLength: 4, maxLength: 14 },
) // prettier-ignore

const createOf = (kind: Kind, start: boolean, startFirst: boolean): ContainerCreate =>
  aCreate({
    start,
    stop: { timeout_seconds: 1 },
    drain: startFirst ? "start_first" : "stop_first",
    restart: { policy: kind === "service" ? "always" : "no" },
    env: kind === "once" ? { FAKE_RUN_FOR_MS: "700" } : {},
  })

const actionOf = (act: Act) => {
  switch (act) {
    case "start":
      return { kind: act } as const
    case "restart":
    case "stop":
      return { kind: act, timeout_seconds: null } as const
    case "kill":
      return { kind: act, signal: "SIGKILL" } as const
    case "remove":
    case "remove_by_force":
      return { kind: "remove", force: act === "remove_by_force" } as const
  }
}

/** The real thing and its model, side by side. */
class Pair {
  readonly world: World
  readonly #model = new Map<ContainerId, ModelContainer>()
  readonly #cordoned = new Set<NodeId>()
  #tenant: TenantId
  #cell: CellId
  #keys = 0

  private constructor(world: World, cell: CellId, tenant: TenantId) {
    this.world = world
    this.#cell = cell
    this.#tenant = tenant
  }

  static async begin(seed: string): Promise<Pair> {
    const world = new World({ seed, rates: ROUGH, longestMs: LONGEST_MS })
    const cell = world.addCell()
    const tenant = await world.addTenant(QUOTA)
    for (let i = 0; i < FIRST_NODES; i++) await world.addHost(cell, CAPACITY)
    await world.tick(TICK_MS)
    return new Pair(world, cell, tenant)
  }

  async take(step: Step): Promise<void> {
    switch (step.kind) {
      case "create":
        return this.#create(step)
      case "act":
        return this.#act(step)
      case "join":
        await this.world.addHost(this.#cell, CAPACITY)
        return
      case "cordon":
      case "uncordon":
      case "drain":
      case "leave":
      case "lapse":
        return this.#operate(step)
    }
  }

  /** Lets everything come to rest, and compares. */
  async compare(after: Step): Promise<void> {
    const { world } = this
    const until = world.time.elapsed + AT_REST_IN_S
    do {
      for (let i = 0; i < 4; i++) await world.tick(TICK_MS)
      if (world.time.elapsed > until) break
    } while (await this.#moves())
    await this.#surely(async () => {
      const what = `after ${JSON.stringify(after)}, at ${world.time.elapsed} s`
      let [active, running] = [0, 0]
      for (const [id, { kind, may }] of this.#model) {
        const { status, run } = await peers.tenant(this.#tenant).getContainer(id)
        expect(may, `${id} (${kind}, run ${run?.state}) is ${status} ${what}`).toContain(status)
        this.#model.set(id, { kind, may: [status as Rest] })
        if (status === "running") running += 1
      }
      active = running
      const used = await runInDurableObject(stubs.tenant(this.#tenant), (_, state) =>
        state.storage.sql.exec<{ n: number }>("select count(*) as n from containers where active = 1").one(),
      )
      expect(used.n, `containers that count against the quota ${what}`).toBe(active)
      const nodes = await peers.cell(this.#cell).listNodes()
      expect(
        nodes.reduce((sum, { reserved }) => sum + reserved.runs, 0),
        `reserved runs ${what}`,
      ).toBe(running)
    })
  }

  async #create({ what, count, start, startFirst }: Step & { kind: "create" }): Promise<void> {
    const counted = [...this.#model.values()].filter(({ may }) => may[0] === "running").length
    const key = this.#key()
    const create = createOf(what, start, startFirst)
    const made = await this.#answer(async () => {
      // Asked for anew each time: a stub of an object that was thrown away stays broken.
      const tenant = peers.tenant(this.#tenant)
      if (count === 1) return [(await tenant.createContainer(aCall(key, key), create)).body.id]
      return (await tenant.createBatch(aCall(key, key), { count, container: create })).body.items.map(({ id }) => id)
    })
    const fits = !start || counted + count <= QUOTA.containers
    expect(made.ok, `${count} more of ${counted}`).toBe(fits)
    const rest: Rest = !start ? "created" : what === "once" ? "exited" : "running"
    if (made.ok) for (const id of made.value) this.#model.set(id, { kind: what, may: [rest] })
  }

  async #act({ on, act }: Step & { kind: "act" }): Promise<void> {
    const ids = [...this.#model.keys()]
    const id = ids[on % Math.max(ids.length, 1)]
    const known = id && this.#model.get(id)
    if (id === undefined || !known) return
    const { kind, may } = known
    const rest = may[0] ?? "created"
    const counted = [...this.#model.values()].filter((one) => one.may[0] === "running").length
    const expected = acted(kind, rest, act)
    const begins = (act === "start" || act === "restart") && rest !== "running"
    const fits = !begins || counted < QUOTA.containers
    const key = this.#key()
    const answer = await this.#answer(() => peers.tenant(this.#tenant).act(aCall(key, key), id, actionOf(act)))
    expect(answer.ok, `${act} on ${kind} that is ${rest}: ${answer.ok ? "" : answer.code}`).toBe(expected !== undefined && fits)
    if (answer.ok && expected) this.#model.set(id, { kind, may: [expected] })
  }

  async #operate({ kind, node: index }: Step & { kind: "cordon" | "uncordon" | "drain" | "leave" | "lapse" }): Promise<void> {
    const { world } = this
    const all = [...world.hosts.values()].filter((host) => host.serves)
    const host = all[index % all.length]
    const free = all.filter((one) => !this.#cordoned.has(one.nodeId))
    if (host === undefined) return
    const id = host.nodeId
    // One that takes new runs must be left.
    if (kind !== "uncordon" && free.every((one) => one === host)) return
    switch (kind) {
      case "cordon":
        await this.#surely(() => peers.node(id).cordon(null))
        this.#cordoned.add(id)
        return
      case "uncordon":
        await this.#surely(() => peers.node(id).uncordon())
        this.#cordoned.delete(id)
        return
      case "drain":
        await this.#surely(() => peers.node(id).drain(world.time.now() + DRAIN_MS))
        this.#cordoned.add(id)
        return this.#all(afterDrain)
      case "leave":
        host.forgotten = true
        world.mend(id)
        if (!host.up) await host.start()
        await this.#surely(() => peers.node(id).forget())
        return this.#all(afterLoss)
      case "lapse":
        world.cut(id)
        for (let i = 0; i < (LAPSE_S * 1000) / TICK_MS; i++) await world.tick(TICK_MS)
        world.mend(id)
        return this.#all(afterLoss)
    }
  }

  /** Whether anything is on its way: statuses that pass by themselves, a node that is away, or to be emptied and is not. */
  async #moves(): Promise<boolean> {
    let moves = true
    await this.#surely(async () => {
      moves = (await restless(this.#tenant)).length > 0
      for (const { nodeId, serves } of this.world.hosts.values()) {
        if (!serves) continue
        const { connected, drain } = await peers.node(nodeId).status()
        moves ||= !connected || (drain !== null && drain.runs_left > 0)
      }
    })
    if (moves) return true
    // A cell counts what a node holds until its tenant has given it back.
    const nodes = await peers.cell(this.#cell).listNodes()
    const held = nodes.reduce((sum, { reserved }) => sum + reserved.runs, 0)
    const running = await peers.tenant(this.#tenant).listContainers({ cursor: null, limit: 500, labels: [], status: "running" })
    return held !== running.items.length || running.items.some(({ id }) => this.#model.get(id)?.kind === "once")
  }

  #all(change: (container: ModelContainer) => ModelContainer): void {
    for (const [id, container] of this.#model) this.#model.set(id, change(container))
  }

  #key(): string {
    this.#keys += 1
    return `k-${this.#keys}`
  }

  /** The call's answer or refusal; a failure is no answer, and the call is made again under its key while time passes. */
  async #answer<T>(call: () => Promise<T>): Promise<{ ok: true; value: T } | { ok: false; code: string }> {
    for (;;) {
      const settled = await this.#meanwhile(call())
      if (settled.status === "fulfilled") return { ok: true, value: settled.value }
      const code = asAppError(settled.reason)?.code
      if (code !== undefined && (code === "quota_exceeded" || !ERRORS[code].retryable)) return { ok: false, code }
      await this.world.tick(TICK_MS)
    }
  }

  /** What a test says is thrown; anything else is done again. */
  async #surely(call: () => Promise<void>): Promise<void> {
    for (;;) {
      const settled = await this.#meanwhile(call())
      if (settled.status === "fulfilled") return
      if (settled.reason instanceof Error && settled.reason.name === "AssertionError") throw settled.reason
      await this.world.tick(TICK_MS)
    }
  }

  /** Passes time until the work is done. */
  async #meanwhile<T>(work: Promise<T>): Promise<PromiseSettledResult<T>> {
    const done: PromiseSettledResult<T>[] = []
    void Promise.allSettled([work]).then((all) => done.push(...all))
    for (;;) {
      await this.world.calm()
      const [settled] = done
      if (settled) return settled
      await this.world.tick(TICK_MS)
    }
  }
}

const seed = inject("seed") || String(Date.now())
const RUNS = 8

it(`random operations under random faults come to what a model without faults says (BERTH_SEED=${seed})`, async () => {
  const began = performance.now()
  const faults = new Map<string, number>()
  let [taken, seconds] = [0, 0]
  const property = fc.asyncProperty(steps, fc.nat(), async (list, luck) => {
    const pair = await Pair.begin(`${seed}/${luck}`)
    try {
      for (const step of list) {
        await pair.take(step as Step)
        await pair.compare(step as Step)
        taken += 1
      }
    } finally {
      for (const [kind, count] of pair.world.faults) faults.set(kind, (faults.get(kind) ?? 0) + count)
      seconds += pair.world.time.elapsed
      pair.world.end()
    }
  })
  // 32 bits that the seed decides, for fast-check takes no text.
  const number = [...seed].reduce((sum, letter) => Math.imul(sum, 31) + letter.charCodeAt(0), 7) | 0
  await fc.assert(property, { seed: number, numRuns: RUNS, endOnFailure: inject("jobs") === "" })
  const sum = [...faults.values()].reduce((total, count) => total + count, 0)
  console.info(
    `seed ${seed}: ${taken} operations of ${RUNS} runs, ${sum} faults, ${Math.round(seconds)} virtual seconds, ` +
      `${((performance.now() - began) / 1000).toFixed(1)} s of wall`,
  )
})
