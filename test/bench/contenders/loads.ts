/**
 * The loads as shell scripts, and who runs them. Each prints as its last line milliseconds for a fixed amount of work. No server
 * leaves its script's process group: on the host nothing else would end it with the bench.
 */
import { availableParallelism } from "node:os"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import type { Client } from "../../../bin/client.ts"
import type { Container } from "../../../schema/api.ts"
import { GIB } from "../../../schema/container.ts"
import type { Contender } from "../harness/bench.ts"
import { output } from "../harness/process.ts"
import type { Dockerd } from "./dockerd.ts"
import type { LoadImage } from "./load-image.ts"

const WAIT_SECONDS = 120
const ADDRESS_MS = 10_000

const REDIS = `
redis-server --port 6397 --bind 127.0.0.1 --save '' --dir /tmp >/dev/null 2>&1 &
until redis-cli -p 6397 ping >/dev/null 2>&1; do sleep 0.05; done
redis-benchmark -p 6397 -t get -n 60000 -c 20 --csv | awk -F'"' '/GET/ { print 60000 * 1000 / $4 }'
redis-cli -p 6397 shutdown nosave >/dev/null 2>&1
wait`

const NGINX_CONFIG = `user root; worker_processes 1; pid /tmp/berth-load.pid; events { worker_connections 256; } http { access_log off; ${[
  "client_body",
  "proxy",
  "fastcgi",
  "uwsgi",
  "scgi",
]
  .map((kind) => `${kind}_temp_path /tmp/berth-load-${kind};`)
  .join(" ")} keepalive_requests 1000000; server { listen 127.0.0.1:6398; location / { return 200 hello; } } }`

const NGINX = `
echo '${NGINX_CONFIG}' > /tmp/berth-load.conf
nginx -e stderr -g 'daemon off;' -c /tmp/berth-load.conf &
until wget -q -O /dev/null http://127.0.0.1:6398/; do sleep 0.05; done 2>/dev/null
wrk -t1 -c16 -d1s http://127.0.0.1:6398/ | awk '/Requests\\/sec/ { print 50000 * 1000 / $2 }'
kill $!
wait
rm -rf /tmp/berth-load*`

/** Says where it is, and answers there; as long as it is let. */
const ANSWERS = `ip -4 addr show dev eth0 | awk '/inet / { sub("/.*", "", $2); print $2 }'; exec load answer`
const ADDRESS = /^\d+\.\d+\.\d+\.\d+$/m
const ON_THE_HOST = (script: string) => `load answer & PEER=127.0.0.1; ${script}; kill $!`

export interface Load {
  readonly name: string
  readonly script: string
  /** Needs another container that answers; its address is then in $PEER. */
  readonly between?: true
  readonly needs?: readonly string[]
}

export const LOADS: readonly Load[] = [
  ...["cpu", "memory", "fork", "stream", "requests", "synced", "sequential"].map((name) => ({ name, script: `load ${name}` })),
  { name: "between_stream", script: 'load stream "$PEER"', between: true },
  { name: "between_requests", script: 'load requests "$PEER"', between: true },
  { name: "redis", script: REDIS, needs: ["redis-server", "redis-benchmark", "redis-cli"] },
  { name: "nginx", script: NGINX, needs: ["nginx", "wrk"] },
]

/** Named `WHO.LOAD`. */
export const inBerth = (tenant: Client, image: LoadImage, { name, script, between }: Load): Contender => {
  const made: string[] = []
  const start = async (run: string, env: Readonly<Record<string, string>>): Promise<string> => {
    const { id } = await tenant.post<Container>("/v1/containers", {
      image: image.berth,
      command: ["/bin/sh", "-c", run],
      env: { PATH: "/bin:/usr/bin", ...env },
      ...(between ? {} : { network: { egress: "none" } }),
      resources: { cpus: availableParallelism(), memory_bytes: GIB, disk_bytes: GIB },
    })
    made.push(id)
    return id
  }
  const peer = async () => {
    const id = await start(ANSWERS, {})
    return { PEER: await addressIn(() => tenant.text(`/v1/containers/${id}/logs`)) }
  }
  return {
    name: `${name} in Berth`,
    async once() {
      const id = await start(script, between ? await peer() : {})
      const ended = await tenant.get<Container>(`/v1/containers/${id}/wait?status=exited&timeout=${WAIT_SECONDS}`)
      if (ended.run?.exit?.code !== 0) throw new Error(`a load ended badly: ${JSON.stringify(ended.run?.exit ?? ended.reason)}`)
      return { [`berth.${name}`]: figureIn(await tenant.text(`/v1/containers/${id}/logs`)) }
    },
    async tidy() {
      for (const id of made.splice(0)) {
        await tenant.delete(`/v1/containers/${id}?force=true`)
        await tenant.get(`/v1/containers/${id}/wait?status=removed&timeout=${WAIT_SECONDS}`)
      }
    },
  }
}

/** Both on the default bridge where a load is between two. */
export const inDocker = (docker: Dockerd, image: LoadImage, { name, script, between }: Load): Contender => {
  const run = ["run", `--network=${between ? "bridge" : "none"}`, "--env=PATH=/bin:/usr/bin"]
  const peers: string[] = []
  const peer = async () => {
    const id = (await output(docker.client(...run, "--detach", image.docker, "/bin/sh", "-c", ANSWERS)))?.trim() ?? ""
    peers.push(id)
    return [`--env=PEER=${await addressIn(() => output(docker.client("logs", id)))}`]
  }
  return {
    name: `${name} in Docker`,
    async once() {
      const more = between ? await peer() : []
      const printed = await output(docker.client(...run, "--rm", ...more, image.docker, "/bin/sh", "-c", script))
      return { [`docker.${name}`]: figureIn(printed) }
    },
    async tidy() {
      for (const id of peers.splice(0)) await docker.api.call("DELETE", `/containers/${id}?force=true`)
    },
  }
}

/** The address that a container printed, once it has. */
async function addressIn(logs: () => Promise<string | null>): Promise<string> {
  for (const deadline = Date.now() + ADDRESS_MS; ; await sleep(20)) {
    const address = ADDRESS.exec((await logs()) ?? "")?.[0]
    if (address !== undefined) return address
    if (Date.now() > deadline) throw new Error("the other container did not say where it is")
  }
}

/** `folder`: on the disk that the containers' roots are on. `signal`: ends the load. */
export const onTheHost = (image: LoadImage, folder: string, { name, script, between }: Load, signal: AbortSignal): Contender => ({
  name: `${name} on the host`,
  once: async () => ({
    [`host.${name}`]: figureIn(
      await output(
        {
          file: "/bin/sh",
          args: ["-c", between ? ON_THE_HOST(script) : script],
          env: { PATH: `${image.hostBin}:/usr/sbin:/usr/bin:/sbin:/bin`, LOAD_FILE: join(folder, "load.file") },
        },
        signal,
      ),
    ),
  }),
  tidy: async () => {},
})

function figureIn(text: string | null): number {
  const figure = Number(text?.trim().split("\n").at(-1) || Number.NaN)
  if (!(figure > 0)) throw new Error(`a load did not say how long it took, but: ${text ?? "nothing, and failed"}`)
  return figure
}
