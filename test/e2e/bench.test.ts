import { mkdtempSync, readdirSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, beforeEach, expect, it } from "vitest"
import { expectNothingLeft, snapshot } from "../support/leftovers.ts"
import { type Started, start } from "../support/start.ts"
import { waitFor } from "../support/wait-for.ts"

let temporary: string
let child: Started
beforeEach(() => {
  temporary = mkdtempSync(join(tmpdir(), "berth-bench-test-"))
})
afterEach(() => {
  if (child.process.exitCode === null) child.process.kill("SIGKILL")
  rmSync(temporary, { recursive: true, force: true })
})

it.each([
  ["while its platform starts", /starting the platform/],
  ["in the middle of its containers", /100 of 200 run/],
])("a bench that Ctrl-C ends %s takes all away, says so in a line and exits as one that was interrupted", async (_, when) => {
  const before = snapshot([temporary])
  child = start(["density", "--count", "200"], "bench.ts", { TMPDIR: temporary })
  await child.prints(when)
  const scratch = await waitFor("the bench's folder", () => readdirSync(temporary)[0])
  process.kill(-(child.process.pid ?? 0), "SIGINT") // the whole group, as a terminal does
  expect((await child.ended()).code, child.output()).toBe(130)
  expect(child.output()).toMatch(/\nbench: stopped, and what it had started taken away in [\d.]+ s\n$/)
  expect(child.output()).not.toMatch(/^\s+at /m)
  expect(readdirSync(temporary)).toEqual([])
  await expectNothingLeft(join(temporary, scratch, "state"), before)
})

it("a bench that was killed leaves its containers to the next one, which takes all away before it begins", async () => {
  const before = snapshot([temporary])
  const killed = start(["density", "--count", "200"], "bench.ts", { TMPDIR: temporary })
  await killed.prints(/starting the platform/)
  const [scratch = ""] = readdirSync(temporary)
  const monitors = () => snapshot([join(temporary, scratch)]).processes.filter((process) => process.includes("conmon"))
  await waitFor("its first containers", () => monitors().length > 5)
  killed.process.kill("SIGKILL")
  await killed.ended()
  expect(monitors().length).toBeGreaterThan(0)
  child = start(["density", "--count", "200"], "bench.ts", { TMPDIR: temporary })
  await child.prints(/starting the platform/)
  expect(child.output()).toContain(`clearing what a killed bench left in ${join(temporary, scratch)}`)
  await expectNothingLeft(join(temporary, scratch, "state"), before)
  process.kill(-(child.process.pid ?? 0), "SIGINT")
  expect((await child.ended()).code, child.output()).toBe(130)
  expect(readdirSync(temporary)).toEqual([])
})
