import { execFileSync } from "node:child_process"
import { closeSync, constants, existsSync, mkdirSync, openSync, readSync, renameSync } from "node:fs"
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
