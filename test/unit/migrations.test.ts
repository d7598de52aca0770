/** What objects stored before has the present form once it was migrated. */
import { readFileSync } from "node:fs"
import { DatabaseSync } from "node:sqlite"
import { describe, expect, it } from "vitest"
import { featuresFor } from "../../schema/features.ts"
import { Assignment } from "../../schema/protocol.ts"
import { ContainerCreate } from "../../schema/container.ts"
import { anId } from "../support/factories.ts"

const run = anId("run")
const OLD_SPEC = {
  image: "a",
  env: {},
  labels: {},
  resources: { cpus: 1, memory_bytes: 536_870_912, pids: 512 },
  stop: { timeout_seconds: 10 },
  profile: "hardened",
  read_only: false,
  tty: false,
  network: { egress: "none" },
}

function migrated(name: string, rows: (db: DatabaseSync) => void): DatabaseSync {
  const db = new DatabaseSync(":memory:")
  const apply = (migration: string) => db.exec(readFileSync(`schema/migrations/${name}/${migration}.sql`, "utf8"))
  apply("0000_first")
  rows(db)
  apply("0001_confinement")
  return db
}

describe("the migration to confinement", () => {
  it("makes assignments of before readable for a bridge of now", () => {
    const body = {
      run_id: run,
      container_id: anId("ctr"),
      tenant_id: anId("ten"),
      desired: "running",
      paused: false,
      stop_timeout_seconds: null,
      spec: { ...OLD_SPEC, image_digest: null, hostname: "web", max_lifetime_seconds: null },
    }
    const db = migrated("node", (old) => {
      old
        .prepare("insert into assignments (run_id, tenant_id, container_id, desired, body, ended) values (?, ?, ?, ?, ?, 0)")
        .run(run, body.tenant_id, body.container_id, "running", JSON.stringify(body))
    })
    const row = db.prepare("select body from assignments").get()
    const assignment = Assignment.parse(JSON.parse(String(row?.body)))
    expect(assignment).toMatchObject({ devices: [], spec: { on_deviation: "report", network: { egress: "none" } } })
  })

  it("gives containers what their create body would say now, and live runs their network", () => {
    const spec = { ...OLD_SPEC, restart: { policy: "no" }, placement: { labels: {} }, remove_on_exit: false }
    const db = migrated("tenant", (old) => {
      const put = (table: string, row: Record<string, string | number | null>) => {
        const names = Object.keys(row)
        old.prepare(`insert into ${table} (${names}) values (${names.map(() => "?")})`).run(...Object.values(row))
      }
      put("containers", {
        id: "ctr", spec: JSON.stringify(spec), cpus: 1, memory_bytes: 1, created_at_ms: 1, desired: "running", desired_since_ms: 1,
        paused: 0, restarting: 0, restarts: 0, backoff_step: 0, lost_attempts: 0, status: "running", active: 1,
      }) // prettier-ignore
      put("runs", {
        id: run, container_id: "ctr", attempt: 1, created_at_ms: 1, node_id: "nod", state: "running", since_ms: 1, revision: 1,
        paused: 0, present: 1, timings: "{}", wish_desired: "running", wish_paused: 0, assign_due: 0, release_due: 0,
      }) // prettier-ignore
    })
    const stored = JSON.parse(String(db.prepare("select spec from containers").get()?.spec))
    const { name: _, start: __, ...now } = ContainerCreate.parse({ image: "a", network: { egress: "none" } })
    expect(stored.resources).toEqual(now.resources)
    expect(stored.seccomp).toEqual(now.seccomp)
    expect(featuresFor(stored)).toEqual(["disk_quota"])
    expect(JSON.parse(String(db.prepare("select wish_network from runs").get()?.wish_network))).toEqual({ egress: "none" })
  })

  it("has nodes say anew what they offer", () => {
    const db = migrated("cell", (old) => {
      old
        .prepare("insert into nodes (node_id, hostname, capacity, labels, profiles, ready) values ('nod', 'h', '{}', '{}', ?, 1)")
        .run('["hardened"]')
    })
    expect(db.prepare("select ready, profiles, devices from nodes").get()).toEqual({ ready: 0, profiles: "[]", devices: "[]" })
  })
})
