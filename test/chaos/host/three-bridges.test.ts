/**
 * Many real containers on three hosts with a bridge each, while processes are killed and stopped, a network is cut and a disk
 * fills up. What lives is read from the kernel; the history of it all must break no promise, and everything must come to what
 * was wished within a stated time. `BERTH_SEED` repeats the choice of faults, `BERTH_CONTAINERS` asks for another number,
 * and `BERTH_BRIDGE_LOGS` names a file for what the bridges and the control plane printed.
 */
import { rmSync, writeFileSync } from "node:fs"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { MIB } from "../../../schema/container.ts"
import { Fleet } from "../../support/fleet.ts"
import type { Kind } from "../../support/fleet.ts"
import { check } from "../../support/history-check.ts"
import { temporaryFolder } from "../../support/images.ts"
import { openSeveralHosts } from "../../support/several-hosts.ts"
import type { SeveralHosts } from "../../support/several-hosts.ts"

const CONTAINERS = Number(process.env.BERTH_CONTAINERS ?? 500)
const SEED = Number(process.env.BERTH_SEED ?? Math.floor(Math.random() * 2 ** 31))
/** One in twenty containers is `stubborn`, one in ten each `keep`, `once` and `start_first`. */
const KINDS: readonly Kind[] = Array.from({ length: CONTAINERS }, (_, i) => {
  if (i % 20 === 19) return "stubborn"
  if (i % 10 === 1) return "keep"
  if (i % 10 === 4) return "once"
  return i % 10 === 7 ? "start_first" : "plain"
})

let folder: string
let lab: SeveralHosts
let fleet: Fleet
const figures: string[] = [`seed ${SEED}, ${CONTAINERS} containers on 3 hosts`]
const log: string[] = []

beforeAll(async () => {
  folder = temporaryFolder("chaos")
  const capacity = { cpus: 100, runs: CONTAINERS + 50, "memory-bytes": 64 * 1024 * MIB, "disk-bytes": CONTAINERS * 32 * MIB }
  const bridgeArgs = Object.entries(capacity).flatMap(([what, much]) => [`--capacity-${what}`, String(much)])
  lab = await openSeveralHosts({ folder, count: 3, bridgeArgs, onLog: (from, line) => log.push(`${from} ${line}`) })
  fleet = await Fleet.open(lab, CONTAINERS + 50)
})
afterAll(async () => {
  console.log(figures.join("\n"))
  if (process.env.BERTH_BRIDGE_LOGS) writeFileSync(process.env.BERTH_BRIDGE_LOGS, log.join("\n"))
  await fleet?.close()
  await lab?.stop()
  rmSync(folder, { recursive: true, force: true })
})

describe(`with seed ${SEED}`, () => {
  it("starts them all", async () => {
    const since = performance.now()
    await fleet.create(KINDS)
    const converged = await fleet.converged("all run", 60)
    figures.push(
      `started in ${((performance.now() - since) / 1000).toFixed(1)} s, the last ${converged.toFixed(1)} s after its answer`,
    )
  })

  it("breaks no promise", async () => {
    expect(check(await fleet.history())).toEqual([])
  })
})
