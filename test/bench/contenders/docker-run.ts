/** Docker on one machine: `docker run -d`, as people type it, and the same two calls straight to its API. */
import { z } from "zod"
import type { Contender } from "../harness/bench.ts"
import { timed } from "../harness/process.ts"
import type { Dockerd } from "./dockerd.ts"
import { SLEEP, type Workload } from "./workload.ts"

const Created = z.object({ Id: z.string() })
const Containers = z.array(z.object({ Id: z.string() }))

export function dockerRun(docker: Dockerd, series: string, { image }: Workload, network: "bridge" | "none"): Contender {
  return {
    name: `docker run -d --network ${network}`,
    once: async () => ({ [series]: await timed(docker.client("run", "-d", "--network", network, image, ...SLEEP)) }),
    tidy: () => removeAll(docker),
  }
}

export function dockerApi(docker: Dockerd, series: string, workload: Workload): Contender {
  return {
    name: "Docker's API, create and start",
    once: async () => {
      const from = performance.now()
      await createAndStart(docker, workload)
      return { [series]: performance.now() - from }
    },
    tidy: () => removeAll(docker),
  }
}

/** `count` containers asked for at once; until the last of them runs. */
export function dockerBurst(
  docker: Dockerd,
  series: { run: string; api: string },
  workload: Workload,
  count: number,
): Contender[] {
  const burst = (name: string, seriesName: string, one: () => Promise<unknown>): Contender => ({
    name,
    once: async () => {
      const from = performance.now()
      await Promise.all(Array.from({ length: count }, one))
      return { [seriesName]: performance.now() - from }
    },
    tidy: () => removeAll(docker),
  })
  return [
    burst(`${count} docker run -d at once`, series.run, () => timed(docker.client("run", "-d", workload.image, ...SLEEP))),
    burst(`${count} creates and starts by Docker's API at once`, series.api, () => createAndStart(docker, workload)),
  ]
}

async function createAndStart({ api }: Dockerd, { image }: Workload): Promise<void> {
  const { Id } = Created.parse(await api.call("POST", "/containers/create", { Image: image, Cmd: SLEEP }))
  await api.call("POST", `/containers/${Id}/start`)
}

async function removeAll({ api }: Dockerd): Promise<void> {
  const containers = Containers.parse(await api.call("GET", "/containers/json?all=true"))
  await Promise.all(containers.map(({ Id }) => api.call("DELETE", `/containers/${Id}?force=true`)))
}
