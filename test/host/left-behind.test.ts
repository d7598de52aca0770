/** What a bridge leaves in memory when it is killed and its state deleted, and what the next bridge on this host does about it. */
import { execFileSync, spawnSync } from "node:child_process"
import { createHash } from "node:crypto"
import { chownSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { expect, it, onTestFinished } from "vitest"
import { tableName } from "../../node-bridge/network/rules.ts"
import { OWNER_FILE, hostPaths, runPaths } from "../../node-bridge/runtime/paths.ts"
import type { HostPaths } from "../../node-bridge/runtime/paths.ts"
import { readRecord } from "../../node-bridge/runtime/host-record.ts"
import { anAssignment } from "../support/assignments.ts"
import { makeBusyboxRoot } from "../support/busybox-image.ts"
import { openHostBench } from "../support/host-bench.ts"
import type { HostBench } from "../support/host-bench.ts"
import { temporaryFolder } from "../support/images.ts"
import type { Moment } from "../support/dying-bridge.ts"
import { waitFor } from "../support/wait-for.ts"

const PROGRAM = join(import.meta.dirname, "../support/dying-bridge.ts")
const tables = () => execFileSync("nft", ["list", "tables"], { encoding: "utf8" })
const tableOf = ({ stateDir }: HostPaths) => tableName(createHash("sha256").update(stateDir).digest("hex"))

/** A directory on which a bridge was killed at that moment of its only run. */
function killedBridge(moment: Moment) {
  const dir = temporaryFolder("left")
  makeBusyboxRoot(join(dir, "image"))
  const run = anAssignment({ spec: { command: ["sleep", "100"], network: { egress: "none" } } })
  const { signal, stderr } = spawnSync(process.execPath, [PROGRAM, dir, moment, JSON.stringify(run)], { encoding: "utf8" })
  expect(signal, stderr).toBe("SIGKILL")
  const host = hostPaths(join(dir, "state"))
  onTestFinished(() => {
    rmSync(dir, { recursive: true, force: true })
    rmSync(host.runtimeDir, { recursive: true, force: true })
    spawnSync("nft", ["delete", "table", "inet", tableOf(host)])
  })
  return { host, run, record: () => readRecord(runPaths(host, run.run_id).record) }
}
async function nextBridge(): Promise<HostBench> {
  const bench = await openHostBench()
  onTestFinished(() => bench.close())
  return bench
}

it("goes once nobody can claim it any more, and not while its state is there", async () => {
  const { host } = killedBridge("prepared, and not on record")
  expect(tables()).toContain(tableOf(host))
  await nextBridge()
  expect(existsSync(host.runtimeDir)).toBe(true)
  expect(tables()).toContain(tableOf(host))
  rmSync(host.stateDir, { recursive: true })
  await nextBridge()
  expect(existsSync(host.runtimeDir)).toBe(false)
  expect(tables()).not.toContain(tableOf(host))
})

it("stays while a container lives that it belongs to, and goes after that", async () => {
  const { host, record } = killedBridge("let go, and not on record")
  const { init, monitor } = record() ?? {}
  rmSync(host.stateDir, { recursive: true })
  await nextBridge()
  expect(existsSync(host.runtimeDir)).toBe(true)
  for (const each of [monitor, init]) if (each) process.kill(each.pid, "SIGKILL")
  await waitFor("the container's end", () => !existsSync(`/proc/${init?.pid}`)) // a zombie is still in its cgroup
  await nextBridge()
  expect(existsSync(host.runtimeDir)).toBe(false)
})

it.each([
  ["is another user's", (dir: string) => chownSync(dir, 65_534, 65_534)],
  [
    "is of a bridge in another mount namespace, where its state may be",
    (dir: string) => {
      const file = join(dir, OWNER_FILE)
      writeFileSync(file, readFileSync(file, "utf8").replace(/mnt:\[\d+\]/, "mnt:[1]"))
    },
  ],
])("stays when it %s", async (_why, change) => {
  const { host } = killedBridge("prepared, and not on record")
  rmSync(host.stateDir, { recursive: true })
  change(host.runtimeDir)
  await nextBridge()
  expect(existsSync(host.runtimeDir)).toBe(true)
})
