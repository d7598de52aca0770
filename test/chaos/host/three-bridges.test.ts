/**
 * Many real containers on three hosts with a bridge each, while processes are killed and stopped, a network is cut, a disk fills
 * up and a clock is off. What lives is read from the kernel; the history of it all must break no promise, and everything must
 * come to what was wished within a stated time. `BERTH_SEED` repeats the choice of faults, `BERTH_CONTAINERS` asks for another
 * number, and `BERTH_BRIDGE_LOGS` names a file for what the bridges and the control plane printed.
 */
import { spawnSync } from "node:child_process"
import { existsSync, rmSync, writeFileSync } from "node:fs"
import { basename } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import type { NodeView } from "../../../schema/api.ts"
import { MIB } from "../../../schema/container.ts"
import { LEASE_SECONDS } from "../../../schema/protocol.ts"
import { Fleet } from "../../support/fleet.ts"
import type { Kind, Member } from "../../support/fleet.ts"
import type { Entry } from "../../support/history.ts"
import { check } from "../../support/history-check.ts"
import { fillDisk, killMonitor, killWorkerd, nodeOf, signalBridge } from "../../support/host-faults.ts"
import { temporaryFolder } from "../../support/images.ts"
import { snapshot } from "../../support/leftovers.ts"
import { openSeveralHosts } from "../../support/several-hosts.ts"
import type { OwnHost, SeveralHosts } from "../../support/several-hosts.ts"
import { waitFor } from "../../support/wait-for.ts"
import { planOf } from "./plan.ts"

const CONTAINERS = Number(process.env.BERTH_CONTAINERS ?? 500)
const SEED = Number(process.env.BERTH_SEED || Math.floor(Math.random() * 2 ** 31))
/** Of all, those that are created while all hosts take some, while one is cordoned, and while two are away. */
const [EARLY, CORDONED] = [Math.floor(CONTAINERS * 0.6), Math.floor(CONTAINERS * 0.1)]
const LATE = CONTAINERS - EARLY - CORDONED
const kindsOf = (count: number, ...some: readonly Kind[]): Kind[] =>
  Array.from({ length: count }, (_, i) => some[i % some.length] ?? "plain")
const MIXED: readonly Kind[] = [
  "plain",
  "keep",
  "plain",
  "start_first",
  "plain",
  "once",
  "plain",
  "start_first",
  "plain",
  "plain",
]

const PLAN = planOf(SEED)
/** Slower by less than the lease allows for. */
const SLOW = 0.992
const SMALL_DISK_BYTES = 768 * MIB

let folder: string
let lab: SeveralHosts
let fleet: Fleet
let ended = false
const figures: string[] = [`seed ${SEED}, ${CONTAINERS} containers on 3 hosts`]
const log: string[] = []
const begunAt = performance.now()
const note = (what: string, seconds: number) =>
  figures.push(`${((performance.now() - begunAt) / 1000).toFixed(0).padStart(4)} s  ${what}: ${seconds.toFixed(1)} s`)
const since = (start: number) => (performance.now() - start) / 1000

const hostOf = (part: number): OwnHost => {
  const host = lab.hosts[part]
  if (host === undefined) throw new Error(`no host ${part}`)
  return host
}
const ofKind = <K extends Entry["kind"]>({ entries }: { readonly entries: readonly Entry[] }, kind: K) =>
  entries.filter((entry): entry is Extract<Entry, { kind: K }> => entry.kind === kind)
const isEnd = (entry: Entry) => entry.kind === "exited" || entry.kind === "destroyed"
const startsAgain = ({ member }: { readonly member: Member }) => member.kind !== "once"
const mayGoOn = ({ member }: { readonly member: Member }) => member.kind === "keep"
const mustEnd = (one: { readonly member: Member }) => !mayGoOn(one)

const drain = (host: OwnHost, deadline_seconds: number) =>
  lab.operator.post<NodeView>(`/v1/admin/nodes/${host.nodeId}/drain`, { deadline_seconds })

beforeAll(async () => {
  folder = temporaryFolder("chaos")
  const capacity = { cpus: 100, runs: CONTAINERS + 50, "memory-bytes": 64 * 1024 * MIB, "disk-bytes": CONTAINERS * 32 * MIB }
  lab = await openSeveralHosts({
    folder,
    count: 3,
    bridgeArgs: Object.entries(capacity).flatMap(([what, much]) => [`--capacity-${what}`, String(much)]),
    small: { [PLAN.cut]: SMALL_DISK_BYTES },
    skewed: { [PLAN.cut]: { aheadMs: PLAN.aheadMs, rate: SLOW } },
    onLog: (from, line) => log.push(`${from} ${line}`),
  })
  fleet = await Fleet.open(lab, CONTAINERS + 50)
  figures.push(`host-${PLAN.cut} is cut off and its clock ${PLAN.aheadMs} ms ahead, host-${PLAN.stopped}'s bridge is stopped`)
  note("three hosts ready", since(begunAt))
})
afterAll(async () => {
  console.log(figures.join("\n"))
  if (process.env.BERTH_BRIDGE_LOGS) writeFileSync(process.env.BERTH_BRIDGE_LOGS, log.join("\n"))
  await fleet?.close()
  if (!ended) await lab?.stop()
  rmSync(folder, { recursive: true, force: true })
})

describe(`with seed ${SEED}`, () => {
  it("all start while workerd and a bridge are killed", async () => {
    const start = performance.now()
    const created = fleet.create(kindsOf(EARLY, ...MIXED))
    const faults = [
      { at: PLAN.workerdAt, strike: () => killWorkerd(lab) },
      { at: PLAN.bridgeAt, strike: () => signalBridge(hostOf(PLAN.left), "SIGKILL") },
    ].toSorted((a, b) => a.at - b.at)
    for (const { at, strike } of faults) {
      await waitFor("so many answers", () => fleet.answered >= at * EARLY, 60_000)
      await strike()
    }
    await created
    note(`${EARLY} answered`, since(start))
    note("after the last answer all run", await fleet.converged("all run", 60))
    figures.push(`        on the hosts: ${lab.hosts.map(({ name }) => fleet.live.on(name).length).join(", ")}`)
  })

  it("one host is emptied while another's disk is full, and gets nothing until it is uncordoned", async () => {
    const [host, full] = [hostOf(PLAN.left), hostOf(PLAN.cut)]
    const start = performance.now()
    const empty = await fillDisk(lab, full)
    note("a full disk was noticed", since(start))
    const third = hostOf(PLAN.stopped)
    const victims = [full, third].flatMap((struck) =>
      PLAN.pick(fleet.on(struck.name).filter(startsAgain), 8).map((one) => ({ ...one, struck })),
    )
    for (const { run, struck } of victims) killMonitor(struck, run)
    signalBridge(third, "SIGKILL")
    const killedAt = performance.now()
    const another = ({ member, run }: (typeof victims)[number]) => fleet.live.of(member.index).some((one) => one.run !== run)
    const runAgain = waitFor("those to run again whose monitors were killed", () => victims.every(another), 40_000).then(() =>
      note(`${victims.length} monitors and a bridge killed, all of them run again`, since(killedAt)),
    )

    const there = fleet.on(host.name)
    const staying = there.filter(({ member }) => member.kind === "once")
    const drainedAt = performance.now()
    const begun = await drain(host, 60)
    expect(begun.drain).toMatchObject({ runs_at_start: there.length })
    const seen: number[] = []
    await waitFor("all to have left but what is not to be started again", async () => {
      const { drain: progress } = await nodeOf(lab, host)
      if (progress && progress.runs_left !== seen.at(-1)) seen.push(progress.runs_left)
      return progress?.runs_left === staying.length && fleet.on(host.name).length === staying.length
    }, 60_000) // prettier-ignore
    note(`${there.length - staying.length} left a host that is emptied`, since(drainedAt))
    expect(seen, "runs left").toEqual(seen.toSorted((a, b) => b - a))
    await drain(host, 0)
    await waitFor("none to be left", async () => (await nodeOf(lab, host)).drain?.runs_left === 0, 30_000)
    note("and the last, that no policy starts again", since(drainedAt))

    await runAgain
    empty()
    await waitFor("the disk to have space again", async () => (await nodeOf(lab, full)).conditions.length === 0)
    await fleet.create(kindsOf(CORDONED, "stubborn", "plain"))
    await fleet.converged("all run elsewhere", 60)
    expect(fleet.on(host.name)).toEqual([])
    await lab.operator.post(`/v1/admin/nodes/${host.nodeId}/uncordon`)
    expect(await nodeOf(lab, host)).toMatchObject({ cordoned: false, drain: null })
    note("disk filled and freed, host emptied, cordoned and open again", since(start))
  })

  it("none is lost or doubled when one host is cut off and another's bridge is stopped, for longer than a lease", async () => {
    const [cut, stopped, left] = [hostOf(PLAN.cut), hostOf(PLAN.stopped), hostOf(PLAN.left)]
    const before = new Map([cut, stopped].map((host) => [host.name, fleet.on(host.name)]))
    const away = [...before.values()].flat()
    const awayAt = performance.now()
    cut.network.cut()
    signalBridge(stopped, "SIGSTOP")

    const emptied = async (host: OwnHost) => {
      await waitFor(`all on ${host.name} to end but what may go on`, () => !fleet.on(host.name).some(mustEnd), 60_000)
      return since(awayAt)
    }
    const [endedOnCut, endedOnStopped] = [emptied(cut), emptied(stopped)]

    // What is deleted now, its node hears of when it is back.
    for (const host of [cut, stopped]) {
      const there = before.get(host.name) ?? []
      const doomed = [...PLAN.pick(there.filter(mayGoOn), 3), ...PLAN.pick(there.filter(mustEnd), 5)]
      await Promise.all(doomed.map(({ member }) => fleet.remove(member)))
    }
    await fleet.create(kindsOf(LATE, ...MIXED))
    note("after the cut the rest were created", since(awayAt))
    signalBridge(left, "SIGKILL")

    note("after the cut its bridge had stopped all but what may go on", await endedOnCut)
    note("on the host whose bridge was stopped all was ended but what may go on", await endedOnStopped)
    expect(Math.max(await endedOnCut, await endedOnStopped)).toBeLessThan(LEASE_SECONDS)

    const replaced = away.filter(({ member }) => !member.removed && member.kind !== "keep" && member.kind !== "once")
    const elsewhere = ({ member }: { member: Member }) => fleet.live.of(member.index).some(({ host }) => host === left.name)
    await waitFor("all that were stopped to run again", () => replaced.every(elsewhere), 60_000)
    note(`after the cut all ${replaced.length} that were lost run again`, since(awayAt))
    const kept = away.filter(mayGoOn)
    expect(kept.map(({ member }) => fleet.live.of(member.index).map(({ run }) => run))).toEqual(kept.map(({ run }) => [run]))

    const backAt = performance.now()
    cut.network.heal()
    signalBridge(stopped, "SIGCONT")
    await fleet.converged("all are as wished", 60)
    note("after both were back all is as wished", since(backAt))
  })

  it("breaks no promise", async () => {
    const history = await fleet.history()
    const found = check(history)
    expect(found.slice(0, 20), `${found.length} violations`).toEqual([])
    figures.push(`${history.entries.length} entries of history, ${history.final.events.length} events, no violation`)
    const relieved = new Set(history.entries.flatMap((entry) => (entry.kind === "relieved" ? [entry.run] : [])))
    expect(relieved.size, "runs that left a drained host after the next one had begun").toBeGreaterThan(0)

    // It would be seen: the same history, but that one process that was replaced had lived on.
    const started = Map.groupBy(ofKind(history, "started"), (entry) => entry.container)
    const [older] = [...started.values()].find(([first, next]) => next && first && !relieved.has(first.run)) ?? []
    const entries = history.entries.filter((entry) => !(isEnd(entry) && entry.run === older?.run))
    expect(check({ ...history, entries }).map(({ rule }) => rule)).toContain("two_holders")
  })

  it("leaves nothing behind", async () => {
    const runs = new Set<string>(ofKind({ entries: fleet.recorder.entries }, "started").map(({ run }) => run))
    const runtimeDirs = lab.hosts.map((host) => host.runtimeDir)
    const start = performance.now()
    // Otherwise what one host stops begins anew on those that stop a moment later.
    for (const { nodeId } of lab.hosts) await lab.operator.post(`/v1/admin/nodes/${nodeId}/cordon`)
    await lab.stop()
    ended = true
    note("all hosts drained and ended", since(start))
    const left = () => {
      const { cgroups, loops, links, nftTables, mounts } = snapshot([folder])
      const own = new RegExp(`ch(aos_)?${process.pid}[x_]`)
      return [
        ...cgroups.filter((path) => runs.has(basename(path))),
        ...loops,
        ...[...links, ...nftTables].filter((name) => own.test(name)),
        ...mounts.filter((mount) => mount.includes(folder)),
        ...runtimeDirs.filter((path) => existsSync(path)),
        ...spawnSync("pgrep", ["-af", folder], { encoding: "utf8" }).stdout.split("\n").filter(Boolean),
      ]
    }
    await waitFor("nothing to be left", () => left().length === 0, 15_000).catch(() => expect(left()).toEqual([]))
  })
})
