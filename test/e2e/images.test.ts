/** Images from a registry, through the whole platform: by tag, by digest, and a real distribution under our confinement. */
import { spawnSync } from "node:child_process"
import { rmSync } from "node:fs"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { MIB } from "../../schema/container.ts"
import { RegistryCredential } from "../../schema/registry-credentials.ts"
import { debianLayout, makeImage, temporaryFolder } from "../support/images.ts"
import { expectNothingLeft, snapshot } from "../support/leftovers.ts"
import type { Snapshot } from "../support/leftovers.ts"
import { openPlatform } from "../support/platform.ts"
import type { TestPlatform, TestTenant } from "../support/platform.ts"
import { startRegistry } from "../support/registry.ts"
import type { Registry } from "../support/registry.ts"

const state = temporaryFolder("images")
const layout = join(temporaryFolder("layouts"), "layout")
let before: Snapshot
let registry: Registry
let berth: TestPlatform
let tenant: TestTenant

beforeAll(async () => {
  before = snapshot([state])
  registry = await startRegistry()
  berth = await openPlatform({ state })
  tenant = await berth.tenant("puller")
})
afterAll(async () => {
  await registry.stop()
  for (const dir of [state, join(layout, "..")]) rmSync(dir, { recursive: true, force: true })
})

async function push(name: string, tag: string, parts: Parameters<typeof makeImage>[2] = {}): Promise<string> {
  const digest = makeImage(layout, `${name}-${tag}`, parts)
  await registry.push(layout, `${name}-${tag}`, `${name}:${tag}`)
  return digest
}

describe("an image", () => {
  it("is run by tag, with its own command and settings, and the digest is recorded on the run and told in its event", async () => {
    const command = ["sh", "-c", "echo $GREETING from $(pwd) as $(id -u)"]
    const digest = await push("app", "1", { cmd: command, env: ["PATH=/bin", "GREETING=hello"], workdir: "/tmp", user: "65534" })
    const { id, run } = await tenant.through({ image: `${registry.host}/app:1` })
    expect(run).toMatchObject({ image_digest: digest, exit: { code: 0, by: "process" } })
    expect(await tenant.log(id)).toBe("hello from /tmp as 65534\n")
    const [running] = await tenant.events(`container=${id}&types=container.running`)
    expect(running?.data.image_digest).toBe(digest)
    expect(Object.keys(run?.timings ?? {})).toContain("image")
  })

  it("is run by digest, whatever its tag has moved on to", async () => {
    const digest = await push("moving", "1", { cmd: ["echo", "the old one"] })
    await push("moving", "1", { cmd: ["echo", "the new one"] })
    const { id, run } = await tenant.through({ image: `${registry.host}/moving@${digest}` })
    expect(run?.image_digest).toBe(digest)
    expect(await tenant.log(id)).toBe("the old one\n")
  })

  it("stays the same for all runs of a container, though its tag moves on", async () => {
    const digest = await push("pinned", "1", { cmd: ["echo", "the old one"] })
    const { id } = await tenant.through({ image: `${registry.host}/pinned:1` })
    await push("pinned", "1", { cmd: ["echo", "the new one"] })
    await tenant.act(id, "start")
    const { run } = await tenant.reaches(id, "exited")
    expect(run).toMatchObject({ attempt: 2, image_digest: digest })
    expect(await tenant.log(id)).toBe("the old one\nthe old one\n")
  })

  it("can be a real Debian 12, in which bash, dpkg, perl, apt and a change of user work under the filter", async () => {
    await registry.push(debianLayout(), "12", "debian:12")
    const script = [
      "set -euo pipefail",
      "echo bash ${BASH_VERSINFO[0]}",
      "dpkg -l | awk '$2 == \"apt\" { print $1, $2 }'",
      'perl -e \'use threads; print "perl ", threads->create(sub { 6 * 7 })->join, "\\n"\'',
      "apt-get --version | sed -n 1p",
      "dpkg --verify coreutils",
      "touch /tmp/mine && chown 1000:1000 /tmp/mine && stat -c %u /tmp/mine",
      "setpriv --reuid 1000 --regid 1000 --clear-groups id -u",
      "cat /etc/debian_version",
    ].join("\n")
    const { id, run, reason } = await tenant.through({
      image: `${registry.host}/debian:12`,
      command: ["bash", "-c", script],
      resources: { cpus: 1, memory_bytes: 256 * MIB, pids: 64 },
    })
    const log = await tenant.log(id)
    expect(run?.exit?.code, `${reason?.message}\n${log}`).toBe(0)
    expect(log.split("\n")).toEqual([
      "bash 5",
      "ii apt",
      "perl 42",
      expect.stringMatching(/^apt 2\.6\.\d+ \(amd64|arm64\)$/),
      "1000",
      "1000",
      expect.stringMatching(/^12\.\d+$/),
      "",
    ])
  })
})

const stored = async (of: TestTenant, body: object): Promise<RegistryCredential> =>
  RegistryCredential.parse(await (await of.call("POST", "/v1/registry-credentials", { body })).json())

describe("an image that its registry gives only to those who log in", () => {
  const login = { name: "ci", password: "hunter2 and a half" }
  let closed: Registry
  beforeAll(async () => {
    closed = await startRegistry({ login })
    makeImage(layout, "secret-1", { cmd: ["echo", "let in"] })
    await closed.push(layout, "secret-1", "team/secret:1")
  })
  afterAll(async () => {
    await closed.stop()
  })
  const ci = () => ({ registry: closed.host, username: login.name, password: login.password })

  it("is run with the tenant's credential, which nobody reads again", async () => {
    const { id: registry_credential } = await stored(tenant, ci())
    const { id, run } = await tenant.through({ image: `${closed.host}/team/secret:1`, registry_credential })
    expect(run?.exit).toMatchObject({ code: 0, by: "process" })
    expect(await tenant.log(id)).toBe("let in\n")
    const listed = await (await tenant.call("GET", "/v1/registry-credentials")).text()
    expect(JSON.parse(listed).items).toMatchObject([
      { id: registry_credential, username: "ci", last_used_at: expect.any(String) },
    ])
    expect(listed).not.toContain(login.password)
    // Not in the databases, the journal, the image store or a log: grep finds nothing and says so with 1.
    expect(spawnSync("grep", ["-rlaF", "--exclude-dir=disks", login.password, state], { encoding: "utf8" })).toMatchObject({
      status: 1,
      stdout: "",
    })
  })

  it("is given to nobody else because one tenant has it", async () => {
    const other = await berth.tenant("no-login")
    const refused = await other.through({ image: `${closed.host}/team/secret:1` })
    expect(refused).toMatchObject({ status: "exited", reason: { code: "image_unauthorized" } })
    const { id: registry_credential } = await stored(other, { ...ci(), password: "wrong" })
    const wrong = await other.through({ image: `${closed.host}/team/secret:1`, registry_credential })
    expect(wrong.reason).toEqual({
      code: "image_unauthorized",
      message: "The registry does not give this image to these credentials, or it does not exist.",
    })
  })

  it("needs a credential of one's own, for that registry", async () => {
    const { id: registry_credential } = await stored(tenant, { ...ci(), registry: "registry.example" })
    const create = async (of: TestTenant) => {
      const body = { image: `${closed.host}/team/secret:1`, registry_credential }
      const answer = await of.call("POST", "/v1/containers", { body })
      return [answer.status, ((await answer.json()) as { detail: string }).detail]
    }
    expect(await create(tenant)).toEqual([
      422,
      `registry_credential is for registry.example, and the image is of ${closed.host}.`,
    ])
    expect(await create(await berth.tenant("thief"))).toEqual([422, "registry_credential is no registry credential of yours."])
  })
})

describe("all of it together", () => {
  it("leaves nothing behind", async () => {
    await berth.stop()
    await expectNothingLeft(state, before)
  })
})
