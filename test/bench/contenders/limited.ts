/** The same limited container on Berth and on Docker: what it may use, how it is started, and where its processes are. */
import { readdirSync, readFileSync } from "node:fs"
import { z } from "zod"
import type { Client } from "../../../bin/client.ts"
import { cgroupPathOf } from "../../../node-bridge/oci/spec.ts"
import { diskUnder } from "../../../node-bridge/runtime/disk-io.ts"
import type { Container } from "../../../schema/api.ts"
import type { Dockerd } from "./dockerd.ts"
import { initIn } from "./init-process.ts"
import type { Workload } from "./workload.ts"

export const LIMITS = {
  /** Of a host of two processors, what two containers may be promised when it keeps a quarter of each for its own work. */
  cpus: 0.75,
  memory_bytes: 96 * 1024 ** 2,
  pids: 64,
  io: { write_bytes_per_second: 4 * 1024 ** 2 },
} as const

/** One process of it, by its id on this machine; and its end. */
export interface Limited {
  readonly pid: number
  remove(): Promise<void>
}
export type StartLimited = (command: readonly string[]) => Promise<Limited>

const WAIT_SECONDS = 60

export const onBerth =
  (tenant: Client): StartLimited =>
  async (command) => {
    const asked = { image: "localhost/hello", command, resources: LIMITS, network: { egress: "none" } }
    const container = await tenant.post<Container>("/v1/containers", asked, { prefer: `wait=${WAIT_SECONDS}` })
    if (container.status !== "running" || container.run === null)
      throw new Error(`${container.id} is ${container.status}: ${container.reason?.message ?? "no reason given"}`)
    const path = cgroupPathOf(container.run.id)
    return {
      pid: initIn(path),
      remove: async () => {
        await tenant.delete(`/v1/containers/${container.id}?force=true`)
        await tenant.get(`/v1/containers/${container.id}/wait?status=removed&timeout=${WAIT_SECONDS}`)
      },
    }
  }

const Created = z.object({ Id: z.string() })

/** Docker cannot limit the rate of a log: every other limit is the same. */
export const onDocker =
  ({ api }: Dockerd, { image }: Workload, folder: string): StartLimited =>
  async (command) => {
    const body = {
      Image: image,
      Cmd: command,
      HostConfig: {
        NetworkMode: "none",
        NanoCpus: LIMITS.cpus * 1e9,
        Memory: LIMITS.memory_bytes,
        MemorySwap: LIMITS.memory_bytes,
        PidsLimit: LIMITS.pids,
        BlkioDeviceWriteBps: [{ Path: nodeOf(diskUnder(folder)), Rate: LIMITS.io.write_bytes_per_second }],
        // Else it would keep every byte of a flood.
        LogConfig: { Type: "json-file", Config: { "max-size": "8m", "max-file": "3" } },
      },
    }
    const { Id } = Created.parse(await api.call("POST", "/containers/create", body))
    await api.call("POST", `/containers/${Id}/start`)
    return {
      pid: initIn(`/berth-bench-${process.pid}/${Id}`), // the daemon's own count of processes is another namespace's
      remove: async () => {
        await api.call("DELETE", `/containers/${Id}?force=true`)
      },
    }
  }

/** The device file of `MAJOR:MINOR`. */
function nodeOf(disk: string | null): string {
  const name = readdirSync("/sys/block").find((each) => readFileSync(`/sys/block/${each}/dev`, "latin1").trim() === disk)
  if (name === undefined) throw new Error("the bench's folder is on no disk that can be limited")
  return `/dev/${name}`
}
