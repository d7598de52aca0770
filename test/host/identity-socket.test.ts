/** A container asks who it is, from inside: real crun, real user namespace, and a stand-in for the platform alone. */
import { existsSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest"
import type { WhichRun } from "../../node-bridge/identity/sockets.ts"
import type { Assignment } from "../../schema/protocol.ts"
import { type HostBench, openHostBench } from "../support/host-bench.ts"
import { buildProbe } from "../support/probes.ts"

let bench: HostBench
let asked: { run: WhichRun; audience: string }[] = []
beforeAll(async () => {
  bench = await openHostBench({
    identityTokens: async ({ run_id, tenant_id }, audience) => {
      asked.push({ run: { run_id, tenant_id }, audience })
      if (audience === "fails") throw new Error("no platform")
      return { token: `token-for-${audience}`, expires_at: new Date(Date.now() + 600_000).toISOString() }
    },
  })
  buildProbe("unix-get", join(bench.dir, "image/bin/unix-get"))
})
beforeEach(() => {
  asked = []
})
afterAll(async () => bench.close())

const SOCKET = "/run/berth/identity.sock"
const ask = (query: string) => `unix-get ${SOCKET} '${query}'`
const named = ({ run_id, tenant_id }: Assignment) => ({ run_id, tenant_id })

describe("a container that asked for an identity", () => {
  it("gets a token for the audience that it names, as root or not, and again the same while it is fresh", async () => {
    const script = `${ask("/token?audience=https://vault.example")}; ${ask("/token?audience=https://vault.example")}`
    for (const user of ["0", "1000:1000"]) {
      asked = []
      const run = bench.shell(script, { identity: true, user })
      const { outcome, text } = await bench.through(run)
      expect(outcome.exit.code, text).toBe(0)
      expect(text.match(/"token":"token-for-https:\/\/vault\.example"/g)).toHaveLength(2)
      expect(asked).toEqual([{ run: named(run), audience: "https://vault.example" }])
    }
  })

  it("has nothing to write to beside the socket, with a read-only root as well", async () => {
    for (const read_only of [false, true]) {
      const { outcome, text } = await bench.through(
        bench.shell(`touch /run/berth/x; rm ${SOCKET}; [ -S ${SOCKET} ] && ${ask("/token?audience=a")}`, {
          identity: true,
          read_only,
        }),
      )
      expect([outcome.exit.code, text.match(/Read-only file system/g)?.length]).toEqual([0, 2])
      expect(text).toContain("token-for-a")
    }
  })

  it("is told what it asked wrongly, and that the platform cannot be asked", async () => {
    const queries = ["/", "/token", `/token?audience=${"a".repeat(513)}`, "/token?audience=fails"]
    const { text } = await bench.through(bench.shell(queries.map(ask).join("; "), { identity: true }))
    expect(text.match(/HTTP\/1\.1 \d+/g)).toEqual(["HTTP/1.1 404", "HTTP/1.1 400", "HTTP/1.1 400", "HTTP/1.1 503"])
    expect(asked).toHaveLength(1)
  })

  it("can have a minute's worth made, and those that are kept as often as it likes", async () => {
    const script = `for i in $(seq 1 61); do ${ask("/token?audience=a$i").replaceAll("'", '"')}; done; ${ask("/token?audience=a60")}`
    const { text } = await bench.through(bench.shell(script, { identity: true }))
    const statuses = text.match(/HTTP\/1\.1 \d+/g) ?? []
    expect([statuses.length, statuses.filter((status) => status.endsWith("429")).length, statuses.at(-1)]).toEqual([
      62,
      1,
      "HTTP/1.1 200",
    ])
  })

  it("asks on after its bridge was followed by another, and leaves nothing behind", async () => {
    const run = await bench.up(
      bench.shell(`until [ -e /tmp/go ]; do sleep 0.05; done; ${ask("/token?audience=b")}`, { identity: true }),
    )
    await bench.controller.close()
    bench.controller = await bench.another()
    expect((await bench.controller.isolation(run.run_id)).deviations).toEqual([])
    const { pid } = JSON.parse(readFileSync(bench.paths(run.run_id).record, "utf8").trim().split("\n").at(-1) ?? "").init as {
      pid: number
    }
    writeFileSync(`/proc/${pid}/root/tmp/go`, "")
    expect((await bench.outcome(run)).exit.code).toBe(0)
    expect(asked).toEqual([{ run: named(run), audience: "b" }])
    const { mounts } = bench.paths(run.run_id)
    await bench.controller.release(run.run_id)
    expect(existsSync(mounts)).toBe(false)
  })
})

it("a container that did not ask has no such socket", async () => {
  const { outcome } = await bench.through(bench.shell(`[ ! -e /run/berth ]`))
  expect(outcome.exit.code).toBe(0)
})
