import { describe, expect, it } from "vitest"
import { MAX_NOTICES, WaitingNotices } from "../../../node-bridge/agent/waiting-notices.ts"
import { anId } from "../../support/assignments.ts"

const aNotice = (id: string) => ({
  id,
  run_id: anId("run"),
  kind: "disk_full" as const,
  at_ms: 1,
  reason: { code: "disk_full", message: "full" },
})
const ids = (waiting: WaitingNotices) => waiting.take(10_000).map(({ notice }) => notice.id)

describe("notices that wait", () => {
  it("are taken oldest first, and wait no longer", () => {
    const waiting = new WaitingNotices()
    const tenant = anId("ten")
    for (const id of ["a", "b", "c"]) waiting.add(aNotice(id), tenant)
    expect(waiting.take(2).map(({ notice }) => notice.id)).toEqual(["a", "b"])
    expect(ids(waiting)).toEqual(["c"])
    expect(waiting.size).toBe(0)
  })

  it("of a quiet tenant outlast those of a loud one", () => {
    const waiting = new WaitingNotices()
    const [quiet, loud] = [anId("ten"), anId("ten")]
    waiting.add(aNotice("quiet"), quiet)
    for (let i = 0; i < 3 * MAX_NOTICES; i++) waiting.add(aNotice(`loud${i}`), loud)
    expect(waiting.size).toBe(MAX_NOTICES)
    const left = ids(waiting)
    expect(left[0]).toBe("quiet")
    expect(left.at(-1)).toBe(`loud${3 * MAX_NOTICES - 1}`)
  })

  it("added twice count once", () => {
    const waiting = new WaitingNotices()
    const tenant = anId("ten")
    for (let i = 0; i < 2; i++) waiting.add(aNotice("a"), tenant)
    expect(waiting.size).toBe(1)
  })
})
