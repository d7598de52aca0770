/** What can befall hosts of our own, done from outside. */
import { execFileSync, spawnSync } from "node:child_process"
import { rmSync, statfsSync } from "node:fs"
import { join } from "node:path"
import { readRecord } from "../../node-bridge/runtime/host-record.ts"
import type { NodeView } from "../../schema/api.ts"
import type { OwnHost, SeveralHosts } from "./several-hosts.ts"
import { waitFor } from "./wait-for.ts"

export const nodeOf = (lab: SeveralHosts, host: OwnHost) => lab.operator.get<NodeView>(`/v1/admin/nodes/${host.nodeId}`)

export function signalBridge({ bridge, name }: OwnHost, signal: NodeJS.Signals): void {
  if (bridge.pid === undefined) throw new Error(`${name} has no bridge`)
  process.kill(bridge.pid, signal)
}

/** Kills the monitor of a run, and nothing else of it. */
export function killMonitor(host: OwnHost, run: string): void {
  const monitor = readRecord(join(host.runFolder, run, "run.jsonl"))?.monitor
  if (!monitor) throw new Error(`${run} has no monitor on ${host.name}`)
  process.kill(monitor.pid, "SIGKILL")
}

/** Resolves when another control plane answers. */
export async function killWorkerd(lab: SeveralHosts): Promise<void> {
  const pid = lab.workerd()
  if (pid === undefined) throw new Error("no workerd runs")
  process.kill(pid, "SIGKILL")
  const answers = () => fetch(lab.url).then(
    () => true,
    () => false,
  ) // prettier-ignore
  await waitFor("the control plane to be back", answers, 20_000)
}

/** Leaves no block free where the bridge's state is, and waits until the host says so; answers what gives them back. */
export async function fillDisk(lab: SeveralHosts, host: OwnHost): Promise<() => void> {
  const filler = join(host.folder, "filler")
  const { bavail, bsize } = statfsSync(host.folder)
  // What is free is not free for one file to the last block: the rest by writing until it is refused.
  execFileSync("fallocate", ["-l", String(Math.floor(bavail * 0.95) * bsize), filler])
  const write = ["if=/dev/zero", `of=${filler}`, "bs=64K", "oflag=append", "conv=notrunc"]
  if (spawnSync("dd", write, { stdio: "ignore" }).status === 0) throw new Error("a full disk took more")
  const noticed = async () => (await nodeOf(lab, host)).conditions.some(({ kind }) => kind === "disk_pressure")
  await waitFor("the host to say that its disk is full", noticed)
  return () => rmSync(filler)
}
