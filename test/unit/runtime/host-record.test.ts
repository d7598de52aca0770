import { appendFileSync, mkdtempSync, rmSync, statSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { HostRecord, RECORD_FILE, readRecord, writeRecord } from "../../../node-bridge/runtime/host-record.ts"
import { anAssignment, anId } from "../../support/assignments.ts"

const record: HostRecord = {
  run_id: anId("run"),
  tenant_id: anId("ten"),
  profile: "hardened",
  runtime: "crun",
  image_digest: `sha256:${"0".repeat(64)}`,
  boot_id: "a boot",
  stop_signal: null,
  network: { egress: "open" },
  names: ["web"],
  address: "100.64.0.2",
  host_base: 1_000_000,
  read_only: false,
  limits: HostRecord.shape.limits.parse(anAssignment().spec.resources),
  capabilities: [],
  filter_sha256: null,
  devices: [],
  device_nodes: {},
  device_mounts: [],
  identity: false,
  disk_bytes: null,
  processors: null,
  uid: 0,
  init: null,
  file_server: null,
  monitor: null,
  started_at_ms: null,
}
const started = { ...record, init: { pid: 7, startTicks: 1 }, monitor: { pid: 8, startTicks: 1 }, started_at_ms: 1 }

let dir: string
let file: string

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "berth-record-"))
  file = join(dir, RECORD_FILE)
})
afterEach(() => rmSync(dir, { recursive: true }))

describe("what the host remembers of a run", () => {
  it("is the last line", () => {
    writeRecord(file, record)
    writeRecord(file, started)
    expect(readRecord(file)).toEqual(started)
  })

  it("is the last whole line when a write was cut short", () => {
    writeRecord(file, record)
    appendFileSync(file, JSON.stringify(started).slice(0, 100))
    expect(readRecord(file)).toEqual(record)
  })

  it("is what was written after a line that was cut short", () => {
    writeRecord(file, record)
    appendFileSync(file, JSON.stringify(started).slice(0, 100))
    writeRecord(file, started)
    expect(readRecord(file)).toEqual(started)
  })

  it("stays small however often it changes", () => {
    for (let i = 0; i < 1_000; i++) writeRecord(file, { ...started, started_at_ms: i })
    expect(readRecord(file)?.started_at_ms).toBe(999)
    expect(statSync(file).size).toBeLessThan(64 * 1024)
  })
})
