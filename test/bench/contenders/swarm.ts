/** Docker Swarm, the nearest thing to a scheduler that Docker brings: a service of one task or many, until all of them run. */
import { setTimeout as sleep } from "node:timers/promises"
import { z } from "zod"
import type { Contender } from "../harness/bench.ts"
import type { Dockerd } from "./dockerd.ts"
import { SLEEP, type Workload } from "./workload.ts"

/** Asked over an open connection, so that looking costs neither side much; the mean error is half of this. */
const POLL_MS = 5
const TASK_MS = 30_000
/** More for each of many. */
const REPLICA_MS = 1000

const Service = z.object({ ID: z.string() })
const Tasks = z.array(z.object({ Status: z.object({ State: z.string(), Err: z.string().optional() }) }))
const Containers = z.array(z.unknown())

/** Makes the daemon a swarm of one, on its own loopback. */
export async function initSwarm({ api }: Dockerd): Promise<void> {
  await api.call("POST", "/swarm/init", { ListenAddr: "127.0.0.1:2377", AdvertiseAddr: "127.0.0.1" })
}

export function swarmService({ api }: Dockerd, series: string, { image }: Workload, replicas = 1): Contender {
  let service: string | undefined
  const patienceMs = TASK_MS + replicas * REPLICA_MS
  const allRun = async (id: string): Promise<boolean> => {
    const filters = encodeURIComponent(JSON.stringify({ service: [id] }))
    const tasks = Tasks.parse(await api.call("GET", `/tasks?filters=${filters}`))
    const failed = tasks.find(({ Status }) => Status.State === "failed" || Status.State === "rejected")
    if (failed) throw new Error(`a task of the service failed: ${failed.Status.Err ?? failed.Status.State}`)
    return tasks.filter(({ Status }) => Status.State === "running").length === replicas
  }
  return {
    name: replicas === 1 ? "Swarm service create" : `Swarm service create, ${replicas} replicas`,
    once: async () => {
      const from = performance.now()
      const created = Service.parse(
        await api.call("POST", "/services/create", {
          TaskTemplate: { ContainerSpec: { Image: image, Command: SLEEP }, RestartPolicy: { Condition: "none" } },
          Mode: { Replicated: { Replicas: replicas } },
        }),
      )
      service = created.ID
      while (!(await allRun(created.ID))) {
        if (performance.now() - from > patienceMs) throw new Error(`the service's tasks do not run after ${patienceMs} ms`)
        await sleep(POLL_MS)
      }
      return { [series]: performance.now() - from }
    },
    tidy: async () => {
      if (service === undefined) return
      await api.call("DELETE", `/services/${service}`)
      const filters = encodeURIComponent(JSON.stringify({ label: [`com.docker.swarm.service.id=${service}`] }))
      const left = async () => Containers.parse(await api.call("GET", `/containers/json?all=true&filters=${filters}`)).length
      // Its task would otherwise be asked to stop for ten seconds: process 1 does not hear SIGTERM.
      for (const deadline = Date.now() + patienceMs; (await left()) > 0 && Date.now() < deadline;) {
        await killTasks(api, filters)
        await sleep(20)
      }
      service = undefined
    },
  }
}

const Running = z.array(z.object({ Id: z.string() }))

async function killTasks(api: Dockerd["api"], filters: string): Promise<void> {
  const running = Running.parse(await api.call("GET", `/containers/json?filters=${filters}`))
  // One that has ended meanwhile is what is wanted.
  await Promise.all(running.map(({ Id }) => api.call("POST", `/containers/${Id}/kill`).catch(() => {})))
}
