import { describe, expect, it } from "vitest"
import type { Contender } from "../bench/harness/bench.ts"
import { versionIn } from "../bench/harness/machine.ts"
import { missesItsBar, rateRowOf, type Report, rowOf, table, toJson, toText } from "../bench/harness/report.ts"
import { alternate, Series } from "../bench/harness/rounds.ts"
import { median, orderOfRound, p95, quantile } from "../bench/harness/stats.ts"

describe("statistics of a bench", () => {
  it("takes the middle of an odd series and the mean of the two middle ones of an even series", () => {
    expect(median([30, 10, 20])).toBe(20)
    expect(median([40, 10, 30, 20])).toBe(25)
  })

  it("finds the 95th percentile between neighbours", () => {
    expect(p95(Array.from({ length: 101 }, (_, i) => i))).toBe(95)
    expect(p95([10, 20])).toBeCloseTo(19.5)
  })

  it("is not shaken by one outlier", () => {
    expect(median([10, 11, 12, 13, 10_000])).toBe(12)
  })

  it("leaves the series as it was", () => {
    const series = [3, 1, 2]
    quantile(series, 0.5)
    expect(series).toEqual([3, 1, 2])
  })

  it("refuses an empty series instead of inventing a figure", () => {
    expect(() => median([])).toThrow(RangeError)
  })
})

const contender = (name: string, calls: string[], figures: () => number): Contender => ({
  name,
  once: async () => (calls.push(name), { [name]: figures() }),
  tidy: async () => void calls.push(`${name} tidied`),
})

describe("rounds", () => {
  it("let everybody go once", () => {
    expect(orderOfRound(["a", "b", "c", "d"], 7).sort()).toEqual(["a", "b", "c", "d"])
    expect(orderOfRound(["a"], 3)).toEqual(["a"])
    expect(orderOfRound([], 3)).toEqual([])
  })

  it.each([2, 3, 4, 5, 6, 7])("let each of %i go directly after each other equally often", (n) => {
    const all = Array.from({ length: n }, (_, i) => i)
    const follows = new Map<string, number>()
    for (let round = 0; round < 2 * n; round++) {
      const order = orderOfRound(all, round)
      for (const [i, later] of order.slice(1).entries())
        follows.set(`${order[i]}→${later}`, (follows.get(`${order[i]}→${later}`) ?? 0) + 1)
    }
    expect(follows.size).toBe(n * (n - 1))
    expect([...new Set(follows.values())]).toEqual([2])
  })

  const context = { say: () => {}, signal: new AbortController().signal }

  it("do not count the first one, and tidy up after every turn", async () => {
    const calls: string[] = []
    let turn = 0
    const series = await alternate(
      [contender("a", calls, () => (turn++ === 0 ? 1000 : 1)), contender("b", calls, () => 2)],
      2,
      context,
    )
    expect(series.of("a", (all) => Math.max(...all))).toBe(1)
    expect(series.of("b", (all) => all.length)).toBe(2)
    const turns = { a: ["a", "a tidied"], b: ["b", "b tidied"] }
    expect(calls.slice(0, 8)).toEqual([...turns.a, ...turns.b, ...turns.b, ...turns.a])
    expect(calls).toHaveLength(12)
  })

  it("stop between two turns when aborted, with nothing left untidied", async () => {
    const calls: string[] = []
    const controller = new AbortController()
    const stops = contender("a", calls, () => (controller.abort(new Error("enough")), 1))
    await expect(
      alternate([stops, contender("b", calls, () => 2)], 2, { ...context, signal: controller.signal }),
    ).rejects.toThrow("enough")
    expect(calls).toEqual(["a", "a tidied"])
  })

  it("answer null for a series that nobody measured", () => {
    expect(new Series().of("docker", median)).toBeNull()
  })
})

describe("a row", () => {
  const figures = { id: "start.create_vs_docker", what: "create", unit: "ms" }

  it("holds when ours is at most the bar's share of the peer's", () => {
    const row = rowOf({ ...figures, ours: 25, peer: 200, peer_name: "docker run", bar: 1 / 8 })
    expect(row).toMatchObject({ ratio: 0.125, holds: true })
    expect(rowOf({ ...figures, ours: 26, peer: 200, peer_name: "docker run", bar: 1 / 8 })).toMatchObject({ holds: false })
  })

  it("holds its own figure against the bar when there is no peer", () => {
    expect(rowOf({ ...figures, ours: 1.4, bar: 2 })).toMatchObject({ peer: null, ratio: null, holds: true })
    expect(missesItsBar(rowOf({ ...figures, ours: 2.1, bar: 2 }))).toBe(true)
  })

  it("neither holds nor misses when the peer is not there, or when it has no bar", () => {
    const alone = rowOf({ ...figures, ours: 25, peer: null, peer_name: "docker run", bar: 1 / 8 })
    expect(alone).toMatchObject({ ratio: null, holds: null })
    expect(rowOf({ ...figures, ours: 25, peer: 200, peer_name: "docker run" })).toMatchObject({ ratio: 0.125, holds: null })
    expect(missesItsBar(alone)).toBe(false)
  })

  it("turns the ratio of a rate, of which more is better", () => {
    const rate = { id: "schedule.creates", what: "creates", unit: "/s", peer: 500, peer_name: "the least it must be", bar: 1 }
    expect(rateRowOf({ ...rate, ours: 1000 })).toMatchObject({ ratio: 0.5, bar: 1, holds: true })
    expect(rateRowOf({ ...rate, ours: 250 })).toMatchObject({ ratio: 2, holds: false })
    expect(rateRowOf({ ...rate, ours: 0 })).toMatchObject({ holds: false })
    expect(rateRowOf({ ...rate, ours: null })).toMatchObject({ ratio: null, holds: null })
  })
})

describe("a report", () => {
  const report: Report = {
    bench: "start",
    machine: {
      cpus: 2,
      cpu_model: "Some CPU",
      memory_mib: 2048,
      kernel: "6.1",
      cgroups: "v2",
      versions: { crun: "1.8.1", docker: null },
    },
    rows: [
      rowOf({ id: "start.a", what: "create", unit: "ms", ours: 20.00049, peer: 200, peer_name: "docker run", bar: 1 / 8 }),
      rowOf({ id: "start.b", what: "host part", unit: "ms", ours: 45, peer: 25, peer_name: "crun run", bar: 1.6 }),
    ],
    trail: { placed: 1.25, create: 12 },
    notes: ["not compared with Swarm: it did not start"],
  }

  it("is JSON with exactly the agreed keys, and figures short enough to read", () => {
    const parsed = JSON.parse(toJson(report)) as Report
    expect(Object.keys(parsed.rows[0] ?? {}).sort()).toEqual([
      "bar",
      "holds",
      "id",
      "ours",
      "peer",
      "peer_name",
      "ratio",
      "unit",
      "what",
    ])
    expect(parsed.rows[0]).toMatchObject({ ours: 20, ratio: 0.1, bar: 0.125, holds: true })
    expect(parsed.machine).toEqual(report.machine)
    expect(parsed.notes).toEqual(report.notes)
  })

  it("is text that says what holds, what was missed, and what was not compared", () => {
    const lines = toText(report).split("\n")
    expect(lines.find((line) => line.startsWith("create"))).toMatch(
      /20\.0 ms\s+200 ms\s+docker run\s+1\/10\.0+\s+≤ 1\/8\s+holds$/,
    )
    expect(lines.find((line) => line.startsWith("host part"))).toMatch(/1\.80×\s+≤ 1\.6×\s+MISSED$/)
    expect(lines).toContain("note: not compared with Swarm: it did not start")
    expect(lines.find((line) => line.includes("docker not installed"))).toBeDefined()
    expect(lines.find((line) => line.includes("create") && line.endsWith("12.0"))).toBeDefined()
  })

  it("lines its columns up, names to the left and figures to the right", () => {
    const lines = table(
      ["", "ours"],
      [
        ["short", "5 ms"],
        ["much longer", "500 ms"],
      ],
    )
    expect(lines).toEqual(["               ours", "short          5 ms", "much longer  500 ms"])
  })
})

describe("a tool's version", () => {
  it("is the first thing in its answer that looks like one", () => {
    expect(versionIn("Docker version 20.10.24+dfsg1, build 297e128")).toBe("20.10.24+dfsg1")
    expect(versionIn("crun version 1.8.1\ncommit: abc\n+SYSTEMD +SELINUX")).toBe("1.8.1")
    expect(versionIn(null)).toBeNull()
  })
})
