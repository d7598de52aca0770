/** What a bench answers, as data and as text. Rows keep their ids for good: they are compared from one version to the next. */

export interface Row {
  /** `bench.what`, stable. */
  readonly id: string
  readonly what: string
  /** Of `ours` and `peer`. */
  readonly unit: string
  /** Null when it could not be measured; a note then says why. */
  readonly ours: number | null
  readonly peer: number | null
  readonly peer_name: string | null
  /** ours ÷ peer; of a rate, of which more is better, peer ÷ ours. */
  readonly ratio: number | null
  /** The most that `ratio`, or `ours` where there is no peer, may be; null for a row that only informs. */
  readonly bar: number | null
  /** Null when there is no bar, or nothing to hold against it. */
  readonly holds: boolean | null
}

export type Figures = Pick<Row, "id" | "what" | "unit" | "ours"> & Partial<Pick<Row, "peer" | "peer_name" | "bar">>

export interface Machine {
  readonly cpus: number
  readonly cpu_model: string
  readonly memory_mib: number
  readonly kernel: string
  readonly cgroups: string
  /** As each tool prints it; null when it is not installed. */
  readonly versions: Readonly<Record<string, string | null>>
}

export interface Report {
  readonly bench: string
  readonly machine: Machine
  readonly rows: readonly Row[]
  /** Milliseconds of each step of one typical case, in order. */
  readonly trail: Readonly<Record<string, number>> | null
  /** How it was measured, and plainly what could not be. */
  readonly notes: readonly string[]
}

/** Completes a row: ratio and verdict follow from the figures. */
export function rowOf({ peer = null, peer_name = null, bar = null, ...figures }: Figures): Row {
  const ratio = figures.ours === null || peer === null || peer === 0 ? null : figures.ours / peer
  const judged = peer_name === null ? figures.ours : ratio
  return { ...figures, peer, peer_name, ratio, bar, holds: bar === null || judged === null ? null : judged <= bar }
}

/** Completes a row of a rate: its ratio is turned, so that `bar` is still the most that it may be. */
export function rateRowOf(figures: Figures): Row {
  const { ours, peer = null, bar = null } = figures
  const ratio = ours === null || peer === null ? null : peer / ours
  return { ...rowOf({ ...figures, bar: null }), ratio, bar, holds: bar === null || ratio === null ? null : ratio <= bar }
}

export const missesItsBar = (row: Row): boolean => row.holds === false

export function toJson(report: Report): string {
  return JSON.stringify(report, (_key, value: unknown) => (typeof value === "number" ? round(value) : value), 2)
}

/** Four significant digits below 1, three decimals above: enough to compare, short enough to read. */
function round(value: number): number {
  if (value === 0 || !Number.isFinite(value)) return value
  return Math.abs(value) < 1 ? Number(value.toPrecision(4)) : Math.round(value * 1000) / 1000
}

export function toText(report: Report): string {
  const { machine } = report
  const versions = Object.entries(machine.versions).map(([tool, version]) => `${tool} ${version ?? "not installed"}`)
  const trail = Object.entries(report.trail ?? {})
  return [
    `machine: ${machine.cpus} × ${machine.cpu_model}, ${machine.memory_mib} MiB, kernel ${machine.kernel}, cgroup ${machine.cgroups}`,
    `         ${versions.join(", ")}`,
    "",
    ...table(
      ["", "ours", "peer", "", "ratio", "bar", ""],
      report.rows.map((row) => [
        row.what,
        amount(row.ours, row.unit),
        amount(row.peer, row.unit),
        row.peer_name ?? "",
        times(row.ratio),
        row.bar === null ? "" : `≤ ${row.peer_name === null ? amount(row.bar, row.unit) : plainTimes(row.bar)}`,
        row.holds === null ? "" : row.holds ? "holds" : "MISSED",
      ]),
    ),
    ...(trail.length === 0
      ? []
      : [
          "",
          "one create, step by step (ms):",
          ...table(
            [],
            trail.map(([step, ms]) => [`  ${step}`, ms.toFixed(1)]),
          ),
        ]),
    ...(report.notes.length === 0 ? [] : ["", ...report.notes.map((note) => `note: ${note}`)]),
  ].join("\n")
}

const amount = (value: number | null, unit: string): string => (value === null ? "–" : `${digits(value)} ${unit}`)
/** Ratios below a half read better as parts: 1/12.3. */
const times = (ratio: number | null): string =>
  ratio === null ? "–" : ratio > 0 && ratio < 0.5 ? `1/${digits(1 / ratio)}` : `${digits(ratio)}×`
const plainTimes = (bar: number): string => (bar < 0.5 ? `1/${Number((1 / bar).toFixed(2))}` : `${bar}×`)
const digits = (value: number): string => (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2))

/** Columns as wide as they need to be; text to the left, figures to the right. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const all = head.length === 0 ? rows : [head, ...rows]
  const width = (column: number) => Math.max(0, ...all.map((row) => row[column]?.length ?? 0))
  const isFigure = (column: number) => column > 0 && rows.some((row) => /^[–≤]?\s?[\d/.]/.test(row[column] ?? ""))
  return all.map((row) =>
    row
      .map((cell, column) => (isFigure(column) ? cell.padStart(width(column)) : cell.padEnd(width(column))))
      .join("  ")
      .trimEnd(),
  )
}
