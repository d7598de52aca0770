/**
 * Jobs of several tenants on two cells of simulated hosts, while everything that can fail does. The seed decides what and when;
 * `BERTH_SEED=… vitest run --project chaos` makes it again, `BERTH_JOBS=100000` soaks.
 */
import { expect, inject, it } from "vitest"
import { Quota } from "../../../schema/api.ts"
import { check } from "../../support/history-check.ts"
import { GIB } from "../../support/factories.ts"
import { historyOf, restless } from "./final.ts"
import { aJob, type Job } from "./jobs.ts"
import { type OperatorRates, Operators } from "./operators.ts"
import { Tenants } from "./tenants.ts"
import { type Rates, World } from "./world.ts"

const ROUGH: Rates = {
  call: 0.03, frame: 0.01, alarm: 0.1, eviction: 0.01, abort: 0.005, cut: 0.004, bridgeKilled: 0.003, hostRebooted: 0.0005,
  oldVersion: 0.05,
} // prettier-ignore

const BUSY: OperatorRates = { cordon: 0.05, drain: 0.05, lend: 0.03, move: 0.02, forget: 0.01 }

const TENANTS = 4
const HOSTS_PER_CELL = 5
const CAPACITY = { cpus: 30, memory_bytes: 8 * GIB, pids: 10_000, runs: 60, disk_bytes: 100 * GIB }
const QUOTA = Quota.parse({ containers: 130, cpus: 36, memory_bytes: 10 * GIB, creates_per_minute: 1_000_000 })
const TICK_MS = 500
/** Well past a lease. */
const LONGEST_MS = 90_000
/** Virtual seconds after the last fault by which all must have come to rest: a lease, a deadline, a stop and their retries. */
const CONVERGES_IN_S = 180

/** What a whole test run has time for. */
const FEW = "2000"
const jobs = Number(inject("jobs") || FEW)
/** A failure of the day would tell nobody which change it came with; other seeds are for soaks. */
const seed = inject("seed") || "berth"

it(`${jobs} jobs come to what was wished, whatever fails (BERTH_SEED=${seed})`, async () => {
  const began = performance.now()
  const world = new World({ seed, rates: ROUGH, longestMs: LONGEST_MS })
  try {
    for (let i = 0; i < 2; i++) world.addCell()
    for (let i = 0; i < TENANTS; i++) await world.addTenant(QUOTA)
    for (const cell of world.cells) for (let i = 0; i < HOSTS_PER_CELL; i++) await world.addHost(cell, CAPACITY)
    await world.tick(TICK_MS)

    const dice = world.dice.fork("jobs")
    const tenants = new Tenants(world)
    const operators = new Operators(world, BUSY, (cell) => world.addHost(cell, CAPACITY))
    const next = (made: number): Job | undefined => {
      const tenant = dice.pick(world.tenants.filter((id) => (tenants.busy.get(id) ?? 0) < QUOTA.containers))
      return tenant && aJob(dice, tenant, `job-${made}`, jobs - made)
    }
    for (let made = 0; made < jobs || tenants.open > 0 || operators.busy > 0;) {
      for (let i = dice.between(0, 4); i > 0 && made < jobs; i--) {
        const job = next(made)
        if (job === undefined) break
        tenants.begin(job)
        made += job.count
      }
      if (made < jobs) operators.work(TICK_MS / 1000)
      await world.tick(TICK_MS)
    }
    const faultsEnd = world.time.elapsed
    await world.heal()
    let settled = false
    while (!settled && world.time.elapsed - faultsEnd < CONVERGES_IN_S) {
      for (let i = 0; i < 10; i++) await world.tick(TICK_MS)
      settled = (await Promise.all(world.tenants.map(restless))).flat().length === 0
    }
    const convergedIn = world.time.elapsed - faultsEnd
    for (let i = 0; i < 20; i++) await world.tick(TICK_MS)
    const history = await historyOf(world)
    const violations = check(history)
    const faults = [...world.faults].toSorted(([a], [b]) => (a < b ? -1 : 1))
    console.info(
      [
        `seed ${seed}: ${jobs} jobs, ${history.entries.filter(({ kind }) => kind === "started").length} processes, ` +
          `${faults.reduce((sum, [, count]) => sum + count, 0)} faults, ${violations.length} violations`,
        `  ${faults.map(([kind, count]) => `${kind} ${count}`).join(", ")}`,
        `  ${tenants.refusals} refusals by quota, ${tenants.repeats} calls made again, ${history.final.events.length} events`,
        `  ${Math.round(world.time.elapsed)} virtual seconds, at rest ${convergedIn} s after the last fault, ` +
          `${((performance.now() - began) / 1000).toFixed(1)} s of wall; restless ${world.restless}`,
      ].join("\n"),
    )
    expect(violations.slice(0, 20), `BERTH_SEED=${seed}`).toEqual([])
    expect(settled, `at rest within ${CONVERGES_IN_S} virtual seconds`).toBe(true)
  } finally {
    world.end()
  }
})
