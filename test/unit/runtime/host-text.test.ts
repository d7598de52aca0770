import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, beforeEach, expect, test } from "vitest"
import { readSyncMessage } from "../../../node-bridge/runtime/conmon.ts"
import { readImageText } from "../../../node-bridge/runtime/image-files.ts"
import { parseStat } from "../../../node-bridge/runtime/process-identity.ts"
import { parseStopSignal } from "../../../node-bridge/runtime/stop-signal.ts"

let root: string
beforeEach(() => {
  root = join(mkdtempSync(join(tmpdir(), "berth-text-")), "root")
  mkdirSync(join(root, "etc"), { recursive: true })
  mkdirSync(join(root, "deep"))
  writeFileSync(join(root, "deep", "passwd"), "inside")
  writeFileSync(join(root, "..", "secret"), "outside")
})
afterEach(() => rmSync(join(root, ".."), { recursive: true }))

test.each([
  ["an absolute link", "/deep/passwd", "inside"],
  ["a relative link", "../deep/passwd", "inside"],
  ["a link that climbs", "../../../../deep/passwd", "inside"],
  ["a link to the host's file", "../../secret", ""],
  ["a link to itself", "passwd", ""],
  ["a link to a directory", "/deep", ""],
])("%s is followed inside the image only", (_what, target, text) => {
  symlinkSync(target, join(root, "etc", "passwd"))
  expect(readImageText(root, "etc/passwd")).toBe(text)
})

test("a file that is missing or too large is empty", () => {
  expect(readImageText(root, "etc/group")).toBe("")
  writeFileSync(join(root, "etc", "group"), Buffer.alloc(1024 * 1024 + 1))
  expect(readImageText(root, "etc/group")).toBe("")
})

test("a process's name may hold anything", () => {
  const fields = `${Array.from({ length: 17 }, (_, i) => i).join(" ")} 4242 0`
  expect(parseStat(`7 (a) R ( b) Z 1 ${fields}`)).toMatchObject({ state: "Z", parent: 1, startTicks: 4242 })
})

test("conmon answers with a pid, or with the runtime's words", () => {
  expect(readSyncMessage('{"data": 41}\n')).toEqual({ ok: true, pid: 41 })
  expect(readSyncMessage('{"data": -1, "message": "no"}\n')).toEqual({ ok: false, message: "no" })
  expect(readSyncMessage('{"da')).toBeNull()
  expect(readSyncMessage("nonsense\n")).toEqual({ ok: false, message: "nonsense" })
})

test.each([
  ["SIGQUIT", "SIGQUIT"],
  ["quit", "SIGQUIT"],
  ["15", "SIGTERM"],
  ["", null],
  ["SIGRTMIN+3", null],
])("stop signal %j is %s", (text, signal) => {
  expect(parseStopSignal(text)).toBe(signal)
})
