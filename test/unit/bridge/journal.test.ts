import { appendFile, readdir, readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { Journal } from "../../../node-bridge/agent/journal.ts"
import type { RunRecord } from "../../../node-bridge/agent/record.ts"
import { aRecord, BOOT } from "../../support/assignments.ts"
import { temporaryDir } from "../../support/temporary-dir.ts"

const fileOf = (dir: string, record: RunRecord) => join(dir, `${record.assignment.run_id}.jsonl`)
async function reopened(dir: string, boot = BOOT) {
  return (await Journal.open(dir, boot)).loaded
}

describe("the journal", () => {
  it("gives back the last record of each run", async () => {
    await using dir = await temporaryDir()
    const { journal } = await Journal.open(dir.path, BOOT)
    const [one, other] = [aRecord(), aRecord()]
    for (const record of [one, other, { ...one, state: "running" as const, revision: 4 }]) journal.write(record)
    const { records } = await reopened(dir.path)
    expect(records).toEqual([{ ...one, state: "running", revision: 4 }, other])
  })

  it("writes the assignment only when it changed", async () => {
    await using dir = await temporaryDir()
    const { journal } = await Journal.open(dir.path, BOOT)
    const record = aRecord()
    const stopped = { ...record, assignment: { ...record.assignment, desired: "stopped" as const } }
    for (const next of [record, { ...record, revision: 2 }, stopped]) journal.write(next)
    const lines = (await readFile(fileOf(dir.path, record), "utf8")).trimEnd().split("\n")
    expect(lines.map((line) => line.includes('"assignment"'))).toEqual([true, false, true])
    expect((await reopened(dir.path)).records).toEqual([stopped])
  })

  it("takes a torn last line as never written, and writes on after it", async () => {
    await using dir = await temporaryDir()
    const { journal } = await Journal.open(dir.path, BOOT)
    const record = aRecord()
    journal.write(record)
    await appendFile(fileOf(dir.path, record), '{"v":1,"run":{"state":"runn')
    const { journal: next, loaded } = await Journal.open(dir.path, BOOT)
    expect(loaded.records).toEqual([record])
    const later = { ...record, revision: 9 }
    next.write(later)
    expect((await reopened(dir.path)).records).toEqual([later])
  })

  it("reads what a bridge wrote before these fields were known", async () => {
    await using dir = await temporaryDir()
    const { journal } = await Journal.open(dir.path, BOOT)
    const record = aRecord()
    journal.write(record)
    const path = fileOf(dir.path, record)
    const text = (await readFile(path, "utf8")).replace('"stop_reason":null,', "").replace(/,"on_partition":"stop"/, "")
    expect(text).not.toMatch(/stop_reason|on_partition/)
    await writeFile(path, text)
    expect((await reopened(dir.path)).records).toEqual([record])
  })

  it("names a file that it cannot read, and does not guess", async () => {
    await using dir = await temporaryDir()
    const { journal } = await Journal.open(dir.path, BOOT)
    const record = aRecord()
    journal.write(record)
    await writeFile(fileOf(dir.path, record), "\0\0\0\0\n")
    expect(await reopened(dir.path)).toEqual({ records: [], unreadable: [record.assignment.run_id], incomplete: false })
  })

  it("does not grow with a run that changes all day", async () => {
    await using dir = await temporaryDir()
    const { journal } = await Journal.open(dir.path, BOOT)
    const record = aRecord()
    for (let revision = 1; revision <= 1000; revision++) journal.write({ ...record, revision })
    const text = await readFile(fileOf(dir.path, record), "utf8")
    expect(text.split("\n").length).toBeLessThan(70)
    expect((await reopened(dir.path)).records).toEqual([{ ...record, revision: 1000 }])
  })

  it("forgets, twice if need be", async () => {
    await using dir = await temporaryDir()
    const { journal } = await Journal.open(dir.path, BOOT)
    const record = aRecord()
    journal.write(record)
    await journal.forget(record.assignment.run_id)
    await journal.forget(record.assignment.run_id)
    expect(await readdir(dir.path)).toEqual(["boot"])
  })

  it("is incomplete after a restart of the host until it is said to be whole", async () => {
    await using dir = await temporaryDir()
    await Journal.open(dir.path, BOOT)
    const { journal, loaded } = await Journal.open(dir.path, "boot-2")
    expect(loaded.incomplete).toBe(true)
    expect((await reopened(dir.path, "boot-2")).incomplete).toBe(true)
    await journal.whole()
    expect((await reopened(dir.path, "boot-2")).incomplete).toBe(false)
  })
})
