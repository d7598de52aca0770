/** Disks by themselves, taking their space from a small file system of the test's own, where every block can be counted. */
import { execFileSync, spawn } from "node:child_process"
import { closeSync, openSync, readFileSync, readdirSync, rmSync, statSync, statfsSync, writeFileSync, writeSync } from "node:fs"
import { join } from "node:path"
import { afterEach, beforeEach, expect, test } from "vitest"
import { ImageDisks, POOLED_BYTES } from "../../node-bridge/disk/image-disks.ts"
import { openDisks } from "../../node-bridge/disk/open.ts"
import { DiskWatch } from "../../node-bridge/disk/watch.ts"
import { silentLog } from "../../node-bridge/log.ts"
import { ProjectDisks } from "../../node-bridge/disk/project-disks.ts"
import type { NodeCondition } from "../../schema/node.ts"
import { formatId } from "../../schema/ids.ts"
import { temporaryFolder } from "../support/images.ts"
import { loopsOf } from "../support/leftovers.ts"
import { waitFor } from "../support/wait-for.ts"

const MIB = 1024 ** 2
const OWNER = 0x7000_0000
const RUN = formatId("run", 1, new Uint8Array(10))

let host = ""
let dir = ""

beforeEach(() => {
  host = temporaryFolder("disks")
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=256m", "tmpfs", host])
  dir = join(host, "disks")
})
afterEach(async () => {
  await waitFor("all loop devices to go", () => loopsOf(host).length === 0)
  execFileSync("umount", [host])
  for (const folder of [host, onDisk()]) rmSync(folder, { recursive: true, force: true })
})

/** tmpfs takes files of any size; a real file system has a limit. */
const onDisk = () => `${host}-on-disk`
const usedBytes = (path: string) => {
  const { blocks, bfree, bsize } = statfsSync(path)
  return (blocks - bfree) * bsize
}

/** Writes until the file system refuses; answers how many bytes it took and what it said. */
function fill(file: string): { readonly bytes: number; readonly code: unknown } {
  const chunk = Buffer.alloc(MIB, 1)
  const fd = openSync(file, "w")
  try {
    for (let bytes = 0; ;) {
      try {
        bytes += writeSync(fd, chunk)
      } catch (error) {
        return { bytes, code: error instanceof Error && "code" in error ? error.code : error }
      }
    }
  } finally {
    closeSync(fd)
  }
}

test("a disk holds what was asked for and no more, and says so by itself", async () => {
  const disks = await ImageDisks.open({ dir, poolSize: 1 })
  const disk = await disks.take(RUN, 64 * MIB, OWNER)
  expect(statSync(join(disk.path, "upper"))).toMatchObject({ uid: OWNER, gid: OWNER, mode: 0o40755 })
  const { blocks, bsize, files } = statfsSync(disk.path)
  expect(blocks * bsize).toBeGreaterThan(60 * MIB)
  expect(blocks * bsize).toBeLessThanOrEqual(64 * MIB)
  expect(files).toBe(8_192)
  const { bytes, code } = fill(join(disk.path, "upper", "file"))
  expect(code).toBe("ENOSPC")
  expect(bytes).toBeGreaterThan(58 * MIB)
  expect(bytes).toBeLessThan(64 * MIB)
  disk.release()
  await disks.close()
})

test("a whole batch's disks are made at once, though the kernel tells all who ask the same free number", async () => {
  const disks = await ImageDisks.open({ dir, poolSize: 1 })
  const made = await Promise.allSettled(Array.from({ length: 300 }, () => disks.take(RUN, 16 * MIB, OWNER)))
  for (const disk of made) if (disk.status === "fulfilled") disk.value.release()
  expect(made.filter(({ status }) => status === "rejected")).toEqual([])
  await disks.close()
})

test("an inode bomb ends at the disk's own number of inodes", async () => {
  const disks = await ImageDisks.open({ dir, poolSize: 1 })
  const disk = await disks.take(RUN, 16 * MIB, OWNER)
  const names = Array.from({ length: 2_100 }, (_, at) => join(disk.path, "upper", `${at}`))
  expect(() => names.forEach((name) => writeFileSync(name, ""))).toThrow(/ENOSPC/)
  expect(statfsSync(disk.path)).toMatchObject({ files: 2_048, ffree: 0 })
  disk.release()
  await disks.close()
})

test("it has no name, is in no mount table, and its space is the host's again as soon as files or the disk go", async () => {
  const disks = await ImageDisks.open({ dir, poolSize: 1 })
  const before = usedBytes(host)
  const mounts = readFileSync("/proc/self/mountinfo", "utf8")
  const disk = await disks.take(RUN, 128 * MIB, OWNER)
  expect(readdirSync(dir)).toEqual(["seed"])
  expect(readFileSync("/proc/self/mountinfo", "utf8")).toBe(mounts)
  const written = () => usedBytes(host) - before
  expect(written()).toBeLessThan(MIB)
  writeFileSync(join(disk.path, "upper", "file"), Buffer.alloc(50 * MIB, 1), { flush: true })
  expect(written()).toBeGreaterThan(50 * MIB)
  rmSync(join(disk.path, "upper", "file"))
  await waitFor("a deleted file's space", () => written() < 2 * MIB)
  writeFileSync(join(disk.path, "upper", "file"), Buffer.alloc(50 * MIB, 1), { flush: true })
  const from = performance.now()
  disk.release()
  disk.release()
  await waitFor("the disk's space", () => written() < MIB)
  expect(performance.now() - from).toBeLessThan(1_000)
  await disks.close()
})

test("two disks share nothing, and one of the pool is as good as one made on the spot", async () => {
  const disks = await ImageDisks.open({ dir, poolSize: 2 })
  await disks.refill()
  expect(loopsOf(host)).toHaveLength(2)
  const [pooled, made, other] = await Promise.all(
    [POOLED_BYTES, POOLED_BYTES, 32 * MIB].map((bytes) => disks.take(RUN, bytes, OWNER)),
  )
  for (const disk of [pooled, made, other]) {
    expect(readdirSync(join(disk?.path ?? "", "upper"))).toEqual([])
    writeFileSync(join(disk?.path ?? "", "upper", "mine"), "")
  }
  await waitFor("the pool to fill again once it is quiet", () => loopsOf(host).length === 5)
  await disks.close()
  expect(loopsOf(host).length).toBeLessThanOrEqual(5)
  for (const disk of [pooled, made, other]) disk?.release()
})

test("a disk larger than the file system can hold is refused by name", async () => {
  const disks = await ImageDisks.open({ dir: onDisk(), poolSize: 1 })
  await expect(disks.take(RUN, 2 ** 50, OWNER)).rejects.toMatchObject({ reason: { code: "disk_too_large" }, retryable: false })
  await disks.close()
})

test("nothing is left when its owner is killed", async () => {
  const script = `
    import { ImageDisks } from ${JSON.stringify(join(import.meta.dirname, "../../node-bridge/disk/image-disks.ts"))}
    const disks = await ImageDisks.open({ dir: process.argv[1], poolSize: 3 })
    await disks.refill()
    await disks.take("run", 64 * 2 ** 20, 0)
    console.log("made")
    setInterval(() => {}, 1000)`
  const child = spawn(process.execPath, ["--input-type=module", "-e", script, dir], { stdio: ["ignore", "pipe", "inherit"] })
  await new Promise((resolve) => child.stdout.once("data", resolve))
  expect(loopsOf(host)).toHaveLength(4)
  child.kill("SIGKILL")
  await waitFor("the kernel to take it all down", () => loopsOf(host).length === 0)
  expect(readdirSync(dir)).toEqual(["seed"])
})

test("a file system that keeps no project quota is found out by trying, and images take its place", async () => {
  expect(ProjectDisks.open(dir)).toBeNull()
  expect(readdirSync(dir)).toEqual([])
  const disks = await openDisks({ dir, poolSize: 1 })
  expect(disks.kind).toBe("image")
  await disks.close()
})

test("a host whose disk runs low says so once, and once more when it has space again", async () => {
  const told: (NodeCondition | null)[] = []
  const watch = new DiskWatch({
    stateDir: host,
    log: silentLog,
    notice: () => {},
    condition: (condition) => void told.push(condition),
    everyMs: 3_600_000,
  })
  const look = async () => {
    await watch.look()
    return told.map((found) => found?.kind ?? null)
  }
  expect(await look()).toEqual([])
  writeFileSync(join(host, "images"), Buffer.alloc(250 * MIB))
  expect(await look()).toEqual(["disk_pressure"])
  expect(await look()).toEqual(["disk_pressure"])
  expect(told[0]?.message).toContain("6 MiB")
  rmSync(join(host, "images"))
  expect(await look()).toEqual(["disk_pressure", null])
  watch.close()
})
