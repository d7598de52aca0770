import { execFileSync } from "node:child_process"
import {
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  readdirSync,
  renameSync,
  writeFileSync,
} from "node:fs"
import { dirname, join } from "node:path"
import { describe, expect, it, onTestFinished } from "vitest"
import { hostPaths, runtimeRootOf } from "../../../node-bridge/runtime/paths.ts"
import { RuntimeCli } from "../../../node-bridge/runtime/runtime-cli.ts"
import { anId } from "../../support/factories.ts"
import { temporaryDir } from "../../support/temporary-dir.ts"

/** A container as crun leaves it after `create`: a pipe that its process waits on. Nothing here starts a program. */
async function aCreated() {
  const dir = await temporaryDir()
  onTestFinished(() => dir[Symbol.asyncDispose]())
  const host = hostPaths(join(dir.path, "state"), join(dir.path, "run"))
  const runId = anId("run")
  const fifo = join(runtimeRootOf(host, "crun"), runId, "exec.fifo")
  mkdirSync(dirname(fifo), { recursive: true })
  execFileSync("mkfifo", [fifo])
  const cli = new RuntimeCli("crun", host, {} as ConstructorParameters<typeof RuntimeCli>[2])
  const process = () => openSync(fifo, constants.O_RDONLY | constants.O_NONBLOCK)
  return { cli, runId, fifo, process }
}

const read = (fd: number) => readSync(fd, Buffer.alloc(1))

describe("letting a created container go", () => {
  it("sends its process one byte and leaves no pipe", async () => {
    const { cli, runId, fifo, process } = await aCreated()
    const waiting = process()
    expect(await cli.wasStarted(runId)).toBe(false)
    expect(await cli.start(runId)).toBeNull()
    expect(read(waiting)).toBe(1)
    expect([await cli.wasStarted(runId), existsSync(fifo), existsSync(`${fifo}.going`)]).toEqual([true, false, false])
    closeSync(waiting)
  })

  it("counts as done when it was cut off after the process went: it must not run twice", async () => {
    const { cli, runId, fifo } = await aCreated()
    renameSync(fifo, `${fifo}.going`)
    expect(await cli.wasStarted(runId)).toBe(true)
    expect(existsSync(`${fifo}.going`)).toBe(false)
  })

  it("is brought to its end when it was cut off before the process went", async () => {
    const { cli, runId, fifo, process } = await aCreated()
    const waiting = process()
    renameSync(fifo, `${fifo}.going`)
    expect(await cli.wasStarted(runId)).toBe(true)
    expect(read(waiting)).toBe(1)
    closeSync(waiting)
  })
})

/** A container as runsc leaves it, and a runsc that only writes down what it is told. */
async function aSandbox(status: string) {
  const dir = await temporaryDir()
  onTestFinished(() => dir[Symbol.asyncDispose]())
  const host = hostPaths(join(dir.path, "state"), join(dir.path, "run"))
  const root = runtimeRootOf(host, "runsc")
  const runId = anId("run")
  mkdirSync(root, { recursive: true })
  writeFileSync(join(root, `${runId}_sandbox:${runId}.state`), JSON.stringify({ id: runId, status }))
  writeFileSync(join(root, `${runId}_sandbox:${runId}.lock`), "")
  const said = join(dir.path, "said")
  const runsc = join(dir.path, "runsc")
  writeFileSync(runsc, `#!/bin/sh\necho "$@" >> ${said}\n`, { mode: 0o755 })
  const cli = new RuntimeCli("runsc", host, { runsc } as ConstructorParameters<typeof RuntimeCli>[2])
  return { cli, runId, root, said: () => (existsSync(said) ? readFileSync(said, "utf8") : "") }
}

describe("a sandbox, whose runtime keeps a file for it", () => {
  it("has started once the file no longer says that it waits", async () => {
    const { cli, runId } = await aSandbox("running")
    expect(await cli.wasStarted(runId)).toBe(true)
    const waiting = await aSandbox("created")
    expect(await waiting.cli.wasStarted(waiting.runId)).toBe(false)
    expect(waiting.said()).toBe("")
  })

  it("is brought to its start when one was cut off, for it may be on its way", async () => {
    const { cli, runId, root, said } = await aSandbox("created")
    writeFileSync(join(root, `${runId}.going`), "")
    expect(await cli.wasStarted(runId)).toBe(true)
    expect(said()).toContain(`start ${runId}`)
  })

  it("leaves no file once it is deleted, nor does a create that left its lock alone", async () => {
    const { cli, runId, root, said } = await aSandbox("running")
    await cli.start(runId)
    await cli.delete(runId)
    expect([readdirSync(root), said()]).toEqual([[], expect.stringContaining(`delete --force ${runId}`)])
    writeFileSync(join(root, `${runId}_sandbox:${runId}.lock`), "")
    await cli.delete(runId)
    expect(readdirSync(root)).toEqual([])
  })
})
