import { expect, test } from "vitest"
import { formatCursor, parseCursor, parseLogLine } from "../../../node-bridge/runtime/log-format.ts"
import { anId } from "../../support/assignments.ts"

const TIME = "2026-11-23T18:43:55.301789720+00:00"

test("a line is its time, stream, kind and text", () => {
  expect(parseLogLine(Buffer.from(`${TIME} stderr P two  words `))).toEqual({
    time: "2026-11-23T18:43:55.301789720Z", timeMs: 1_795_459_435_301, stream: "stderr", partial: true, text: "two  words ",
  }) // prettier-ignore
  expect(parseLogLine(Buffer.from(`${TIME} stdout F `))).toMatchObject({ partial: false, text: "" })
})

test("the time is in UTC, whatever zone the host is in", () => {
  expect(parseLogLine(Buffer.from("2026-11-24T00:13:55.301789720+05:30 stdout F x"))).toMatchObject({
    time: "2026-11-23T18:43:55.301789720Z",
    timeMs: 1_795_459_435_301,
  })
})

test("bytes that are no UTF-8 are replaced, not refused", () => {
  expect(parseLogLine(Buffer.from([...Buffer.from(`${TIME} stdout F a`), 0xff, 0x00, 0x62]))?.text).toBe("a\ufffd\0b")
})

test.each(["", "x", `${TIME} stdout`, `${TIME} elsewhere F x`, "yesterday stdout F x"])("%j is no line", (text) => {
  expect(parseLogLine(Buffer.from(text))).toBeNull()
})

test("a cursor is good for its own run alone", () => {
  const run = anId("run")
  expect(parseCursor(run, formatCursor(run, { file: 3, offset: 99 }))).toEqual({ file: 3, offset: 99 })
  expect(parseCursor(anId("run"), formatCursor(run, { file: 3, offset: 99 }))).toBeNull()
  expect(["", "x.1.2", `${run}.1`, `${run}.-1.2`, `${run}.1.2.3`].map((text) => parseCursor(run, text))).toEqual(
    Array(5).fill(null),
  )
})
