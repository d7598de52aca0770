import { spawnSync } from "node:child_process"
import { existsSync, mkdtempSync, rmSync, statSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { clientOf } from "../../bin/client.ts"
import type { Container } from "../../schema/api.ts"
import { expectNothingLeft, snapshot } from "../support/leftovers.ts"
import { envOf, type Started, start } from "../support/start.ts"
import { waitFor } from "../support/wait-for.ts"

describe("npm start", () => {
  let state: string
  const started: Started[] = []
  const run = (...args: string[]) => {
    const child = start(["--state", state, "--port", "0", ...args])
    started.push(child)
    return child
  }

  beforeEach(() => {
    state = mkdtempSync(join(tmpdir(), "berth-start-"))
  })
  afterEach(() => {
    for (const { process: child } of started.splice(0)) if (child.exitCode === null) child.kill("SIGKILL")
    rmSync(state, { recursive: true, force: true })
  })

  it.each(["crun", "runc"])(
    "runs a first container with %s and --once, ends with 0 and leaves nothing behind",
    async (runtime) => {
      const before = snapshot([state])
      const child = run("--once", "--runtime", runtime)
      const { code } = await child.ended()
      expect(child.output()).toContain("Hello from")
      expect(child.output()).toContain("verdict “holds”")
      expect(code, child.output()).toBe(0)
      await expectNothingLeft(state, before)
    },
  )

  it("writes an env file that only its owner can read and that works at once, and locks its folder", async () => {
    const child = run()
    await child.prints(/Berth is up/)
    expect(statSync(join(state, "env")).mode & 0o777).toBe(0o600)
    const { BERTH_URL = "", BERTH_TOKEN = "", BERTH_OPERATOR_TOKEN = "" } = envOf(state)
    await expect(clientOf(BERTH_URL, BERTH_TOKEN).get("/v1/containers")).resolves.toMatchObject({ items: [] })
    await expect(clientOf(BERTH_URL, BERTH_OPERATOR_TOKEN).get("/v1/admin/nodes")).resolves.toMatchObject({
      items: [{ connected: true }],
    })

    // It is the only one that may use its folder.
    const second = run()
    expect((await second.ended()).code).toBe(1)
    expect(second.output()).toMatch(/^berth: Another Berth uses .* choose another folder with --state\.\n$/m)
    expect(second.output()).not.toMatch(/^\s+at /m)
    child.process.kill("SIGINT")
    expect((await child.ended()).code).toBe(0)
  })

  it("stops its containers and leaves nothing behind on Ctrl-C", async () => {
    const before = snapshot([state])
    const child = run()
    await child.prints(/✓ node/)
    const { BERTH_URL = "", BERTH_TOKEN = "" } = envOf(state)
    const tenant = clientOf(BERTH_URL, BERTH_TOKEN)
    await tenant.post("/v1/containers", {
      image: "localhost/hello",
      name: "web",
      command: ["sleep", "1000"],
      stop: { timeout_seconds: 1 },
    })
    await tenant.get("/v1/containers/web/wait?status=running")
    process.kill(-(child.process.pid ?? 0), "SIGINT") // the terminal tells the whole group
    expect((await child.ended()).code, child.output()).toBe(0)
    await expectNothingLeft(state, before)
  })

  it.each([
    ["before its control plane stands", /✓ image/],
    ["while its node starts", /✓ tenant/],
  ])("leaves nothing behind on Ctrl-C %s", async (_, when) => {
    const before = snapshot([state])
    const child = run()
    await child.prints(when)
    if (when.source.includes("tenant"))
      await waitFor("the node to begin", () => snapshot([]).runtimeDirs.length > before.runtimeDirs.length)
    process.kill(-(child.process.pid ?? 0), "SIGINT")
    expect((await child.ended()).code, child.output()).toBe(0)
    expect(child.output()).not.toMatch(/✓ node|^\s+at /m)
    await expectNothingLeft(state, before)
  })

  it("adopts what still runs after a kill -9 of all of it", async () => {
    const first = run()
    await first.prints(/✓ node/)
    const before = envOf(state)
    const tenant = clientOf(before.BERTH_URL ?? "", before.BERTH_TOKEN ?? "")
    await tenant.post("/v1/containers", {
      image: "localhost/hello",
      name: "web",
      command: ["sleep", "1000"],
      stop: { timeout_seconds: 1 },
    })
    const running = await tenant.get<Container>("/v1/containers/web/wait?status=running")
    first.process.kill("SIGKILL")
    await first.ended()
    await waitFor(
      "workerd and the bridge to die with their parent",
      () => snapshot([`${state}/control-plane`]).processes.length === 0,
    )

    const second = run()
    await second.prints(/✓ node/)
    const after = envOf(state)
    const again = clientOf(after.BERTH_URL ?? "", after.BERTH_TOKEN ?? "")
    const adopted = await again.get<Container>("/v1/containers/web")
    expect(adopted.status).toBe("running")
    expect(adopted.run?.id).toBe(running.run?.id)
    expect(adopted.run?.started_at).toBe(running.run?.started_at)
    await again.post("/v1/containers/web/stop")
    await expect(again.get("/v1/containers/web/wait?status=exited&timeout=20")).resolves.toMatchObject({ status: "exited" })
    second.process.kill("SIGINT")
    expect((await second.ended()).code, second.output()).toBe(0)
  })

  it("stops what still ran from a folder before --reset deletes it", async () => {
    const before = snapshot([state])
    const first = run()
    await first.prints(/✓ node/)
    const { BERTH_URL = "", BERTH_TOKEN = "" } = envOf(state)
    const tenant = clientOf(BERTH_URL, BERTH_TOKEN)
    await tenant.post("/v1/containers", { image: "localhost/hello", name: "web", command: ["sleep", "1000"] })
    await tenant.get("/v1/containers/web/wait?status=running")
    first.process.kill("SIGKILL")
    await first.ended()
    const second = run("--reset", "--once")
    expect((await second.ended()).code, second.output()).toBe(0)
    await expectNothingLeft(state, before)
  })

  it("says in one sentence that the port is taken", async () => {
    const server = createServer().listen(0, "127.0.0.1")
    await new Promise((resolve) => server.once("listening", resolve))
    const address = server.address()
    const port = typeof address === "object" && address ? address.port : 0
    const child = start(["--state", state, "--port", String(port)])
    expect((await child.ended()).code).toBe(1)
    server.close()
    expect(child.output()).toBe(`berth: Port ${port} is taken by another program: end it, or choose another with --port.\n`)
  })

  it("says in one sentence that it needs root", () => {
    const { stderr, status } = spawnSync(
      "setpriv",
      ["--reuid", "65534", "--clear-groups", process.execPath, "bin/start.ts", "--state", state],
      {
        encoding: "utf8",
      },
    )
    expect(status).toBe(1)
    expect(stderr).toBe("berth: Berth's node needs root, to make namespaces and mounts: run it as root, or with sudo.\n")
  })

  it("says in one sentence that there is no space", async () => {
    const full = join(state, "full")
    spawnSync("mkdir", [full])
    spawnSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", full])
    try {
      const child = start(["--state", join(full, "state"), "--port", "0"])
      expect((await child.ended()).code).toBe(1)
      expect(child.output()).toMatch(
        /^berth: Only \d+ MB are free under .*: free some, or choose another place with --state\.\n$/,
      )
    } finally {
      spawnSync("umount", [full])
    }
  })

  it("lists its options, and refuses one that it does not know", async () => {
    const help = start(["--help"])
    expect((await help.ended()).code).toBe(0)
    for (const option of ["--once", "--port", "--state", "--reset", "--runtime"]) expect(help.output()).toContain(option)
    const wrong = start(["--nonsense"])
    expect((await wrong.ended()).code).toBe(1)
    expect(wrong.output()).toMatch(/^berth: .*--nonsense/)
    expect(existsSync(join(state, "env"))).toBe(false)
  })
})
