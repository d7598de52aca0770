/** Three apps at their usual work, as shell scripts that wait for a signal before they begin, and who runs them. */
import { spawn } from "node:child_process"
import { mkdir } from "node:fs/promises"
import { z } from "zod"
import type { Client } from "../../../bin/client.ts"
import { cgroupPathOf } from "../../../node-bridge/oci/spec.ts"
import type { Container } from "../../../schema/api.ts"
import { exitOf } from "../harness/process.ts"
import type { Dockerd } from "./dockerd.ts"
import { initIn } from "./init-process.ts"
import type { LoadImage } from "./load-image.ts"

const WAIT_SECONDS = 120
const PATH = "/bin:/usr/bin:/usr/sbin"

/** A signal before this is lost, and one between two waits is seen at the next. */
const AFTER_SIGNAL = `trap 'go=1' USR1; while [ -z "$go" ]; do sleep 0.2 & wait $!; done; mkdir -p "$APP_DIR"; cd "$APP_DIR"`

const REDIS = `
redis-server --port 6399 --bind 127.0.0.1 --appendonly yes --dir . >/dev/null 2>&1 &
until redis-cli -p 6399 ping >/dev/null 2>&1; do sleep 0.05; done
redis-benchmark -p 6399 -t set,get,incr,lpush,lrange_100 -n 8000 -c 20 --csv >/dev/null
redis-cli -p 6399 shutdown save >/dev/null 2>&1
wait`

const TEMPORARY = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((kind) => `${kind}_temp_path t-${kind};`).join(" ")
const NGINX = `
head -c 20000 /dev/zero > page; mkdir logs
echo 'user root; worker_processes 2; pid nginx.pid; events { worker_connections 256; }
http { access_log access.log; ${TEMPORARY} sendfile on; server { listen 127.0.0.1:6400; root '"$APP_DIR"'; } }' > nginx.conf
nginx -p "$APP_DIR" -e error.log -g 'daemon off;' -c nginx.conf &
until wrk -t1 -c1 -d1s http://127.0.0.1:6400/page >/dev/null 2>&1; do sleep 0.05; done
wrk -t1 -c16 -d1s http://127.0.0.1:6400/page >/dev/null
kill $!
wait`

const SQLITE = `
{
  echo 'create table t(a integer primary key, b text, c real); create index i on t(b);'
  i=0; while [ $i -lt 400 ]; do echo "insert into t(b, c) values (hex(randomblob(200)), $i);"; i=$((i + 1)); done
  echo 'begin; insert into t(b, c) select hex(randomblob(100)), a from t, (select 1 union select 2 union select 3); commit;'
  echo 'select count(*), sum(length(b)) from t; update t set c = c + 1; delete from t where a % 3 = 0; vacuum;'
  echo 'pragma journal_mode = wal; insert into t(b) values (1); select count(*) from t where b > 5; pragma integrity_check;'
} | sqlite3 app.db >/dev/null`

export interface App {
  readonly name: string
  readonly what: string
  readonly script: string
  readonly needs: readonly string[]
}

export const APPS: readonly App[] = [
  { name: "redis", what: "redis", script: REDIS, needs: ["redis-server", "redis-cli", "redis-benchmark"] },
  { name: "nginx", what: "nginx", script: NGINX, needs: ["nginx", "wrk"] },
  { name: "sqlite", what: "SQLite", script: SQLITE, needs: ["sqlite3"] },
]

/** An app that waits for SIGUSR1. */
export interface Waiting {
  /** Of its shell: all else that it starts comes from here. */
  readonly pid: number
  /** Resolves when it has ended well. */
  ended(): Promise<void>
  remove(): Promise<void>
}
export interface StartsApps {
  readonly name: "berth" | "docker" | "host"
  start(app: App): Promise<Waiting>
}

const scriptOf = ({ script }: App): string => `${AFTER_SIGNAL}${script}`
const assertEndedWell = (app: App, code: number | undefined) => {
  if (code !== 0) throw new Error(`${app.name} ended with ${code ?? "no exit code"}`)
}

export const appsInBerth = (tenant: Client, image: LoadImage): StartsApps => ({
  name: "berth",
  async start(app) {
    const asked = {
      image: image.berth,
      command: ["/bin/sh", "-c", scriptOf(app)],
      env: { PATH, APP_DIR: "/app" },
      network: { egress: "none" },
    }
    const { id, run } = await tenant.post<Container>("/v1/containers", asked, { prefer: `wait=${WAIT_SECONDS}` })
    if (run === null) throw new Error(`${app.name} did not start`)
    return {
      pid: initIn(cgroupPathOf(run.id)),
      ended: async () => {
        const ended = await tenant.get<Container>(`/v1/containers/${id}/wait?status=exited&timeout=${WAIT_SECONDS}`)
        assertEndedWell(app, ended.run?.exit?.code ?? undefined)
      },
      remove: async () => {
        await tenant.delete(`/v1/containers/${id}?force=true`)
        await tenant.get(`/v1/containers/${id}/wait?status=removed&timeout=${WAIT_SECONDS}`)
      },
    }
  },
})

const Created = z.object({ Id: z.string() })
const Ended = z.object({ StatusCode: z.number() })

export const appsInDocker = ({ api }: Dockerd, image: LoadImage): StartsApps => ({
  name: "docker",
  async start(app) {
    const body = {
      Image: image.docker,
      Cmd: ["/bin/sh", "-c", scriptOf(app)],
      Env: [`PATH=${PATH}`, "APP_DIR=/app"],
      HostConfig: { NetworkMode: "none" },
    }
    const { Id } = Created.parse(await api.call("POST", "/containers/create", body))
    await api.call("POST", `/containers/${Id}/start`)
    return {
      pid: initIn(`/berth-bench-${process.pid}/${Id}`),
      ended: async () => assertEndedWell(app, Ended.parse(await api.call("POST", `/containers/${Id}/wait`)).StatusCode),
      remove: async () => {
        await api.call("DELETE", `/containers/${Id}?force=true`)
      },
    }
  },
})

/** The same busybox and the same servers, with nothing around them. `folder`: on the disk that the containers' roots are on. */
export const appsOnTheHost = (folder: string, signal: AbortSignal): StartsApps => ({
  name: "host",
  async start(app) {
    await mkdir(folder, { recursive: true })
    const child = spawn("/bin/busybox", ["sh", "-c", scriptOf(app)], {
      env: { PATH, APP_DIR: `${folder}/${app.name}-${performance.now()}` },
      stdio: "ignore",
      detached: true,
    })
    const ended = exitOf(child)
    const { pid } = child
    if (pid === undefined)
      throw await ended.then(
        () => new Error(`${app.name} did not start`),
        (error: unknown) => error,
      )
    const kill = () => {
      if (child.exitCode === null && child.signalCode === null) process.kill(-pid, "SIGKILL")
    }
    signal.addEventListener("abort", kill)
    return {
      pid,
      ended: async () => assertEndedWell(app, await ended),
      remove: async () => {
        signal.removeEventListener("abort", kill)
        kill()
        await ended
      },
    }
  },
})
