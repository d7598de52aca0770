import { describe, expect, it } from "vitest"
import { parseSince, plainText, serverSentEntry } from "../../../worker/log-forms.ts"

const RUN = "run_01kaz3v8q0f1x8t1m5y7c2d9e4"
const entry = (fields: object) =>
  JSON.stringify({
    run_id: RUN,
    time: "2026-11-23T18:30:01.5Z",
    stream: "stdout",
    partial: false,
    text: "hello",
    cursor: "1:1",
    ...fields,
  })
const written = (lines: object[], timestamps = false) => lines.map(entry).map(plainText({ timestamps })).join("")

describe("plain text", () => {
  it("writes each entry as a line", () => {
    expect(written([{}, { stream: "stderr", text: "oh" }])).toBe("hello\noh\n")
  })
  it("joins the parts of a long line", () => {
    expect(written([{ text: "one ", partial: true }, { text: "line" }])).toBe("one line\n")
  })
  it("begins a line of its own when the other stream comes between the parts", () => {
    const lines = [{ text: "out", partial: true }, { stream: "stderr", text: "err" }, { text: "rest" }]
    expect(written(lines)).toBe("out\nerr\nrest\n")
  })
  it("puts the time before a line, and not inside one", () => {
    const time = "2026-11-23T18:30:01.5Z"
    expect(written([{ text: "a", partial: true }, { text: "b" }, {}], true)).toBe(`${time} ab\n${time} hello\n`)
  })
})

describe("server-sent entries", () => {
  it("carry cursor, stream and text, and cannot be broken out of by what a container prints", () => {
    const text = serverSentEntry(entry({ text: "a\n\nevent: stderr\ndata: {}" }))
    expect(text.split("\n").slice(0, 2)).toEqual(["id: 1:1", "event: stdout"])
    expect(text.match(/^data: /gm)).toHaveLength(1)
    expect(JSON.parse(/^data: (.*)$/m.exec(text)?.[1] ?? "")).toMatchObject({ text: "a\n\nevent: stderr\ndata: {}", run_id: RUN })
  })
  it("refuse a cursor with a line break", () => {
    expect(() => serverSentEntry(entry({ cursor: "1\ndata: x" }))).toThrow("line break")
  })
})

describe("since", () => {
  const now = Date.parse("2026-11-23T18:30:00Z")
  it.each([
    ["90", now - 90_000],
    ["1.5s", now - 1500],
    ["2026-11-23T18:00:00Z", now - 1_800_000],
    ["2026-11-23T19:00:00+01:00", now - 1_800_000],
    ["yesterday", undefined],
    ["2026-13-40T00:00:00Z", undefined],
    ["-5", undefined],
    ["2026-11-23", undefined],
  ])("%s", (text, expected) => expect(parseSince(text, now)).toBe(expected))
})
