/**
 * A directory for each run under a project quota of its own: no slower than the host's file system, for it is the host's.
 * Where the kernel and the file system of the state have such quotas, which one trial at start decides: what counts is that a
 * file was really refused, and that statfs(2) told the quota.
 *
 * XFS answers ENOSPC at the quota, ext4 EDQUOT. A directory's project number is read back from the directory, so a bridge
 * that comes after a crash knows which are taken; a run's directory is removed before its number is free again.
 */
import { chownSync, closeSync, constants, mkdirSync, openSync, readdirSync, rmSync, statfsSync, writeSync } from "node:fs"
import { join } from "node:path"
import { isId } from "../../schema/ids.ts"
import type { RunId } from "../../schema/ids.ts"
import { limitProject, projectOf, setProject } from "../native/project-quota.ts"
import { ControllerError } from "../runtime/controller.ts"
import { exec } from "../runtime/exec.ts"
import type { Disks, HeldPath } from "../runtime/ports.ts"

/** Out of the way of numbers that people put into /etc/projid. */
export const FIRST_PROJECT = 0x42_00_00_00
const TRIAL_PROJECT = FIRST_PROJECT - 1
/** As an image of the same size would have. */
const BYTES_PER_INODE = 8192
const TRIAL_LIMIT_BYTES = 256 * 1024
const TRIAL_WRITE_BYTES = 1024 * 1024
/** A container may have written millions of files. */
const REMOVE_TIMEOUT_MS = 300_000

export class ProjectDisks implements Disks {
  readonly kind = "project_quota"
  readonly #dir: string
  readonly #taken = new Map<string, number>()

  private constructor(dir: string) {
    this.#dir = dir
  }

  /** Null when this file system has no project quotas, or does not keep to them. */
  static open(dir: string): ProjectDisks | null {
    mkdirSync(dir, { recursive: true, mode: 0o700 })
    if (!holds(dir)) return null
    const disks = new ProjectDisks(dir)
    for (const name of readdirSync(dir).filter((entry) => isId("run", entry)))
      disks.#taken.set(name, withOpen(join(dir, name), projectOf))
    return disks
  }

  // oxlint-disable-next-line require-await -- the port is asynchronous; this implementation answers at once
  async take(runId: RunId, bytes: number, owner: number): Promise<HeldPath> {
    const path = join(this.#dir, runId)
    const project = this.#taken.get(runId) ?? nextProject(this.#taken.values())
    this.#taken.set(runId, project)
    try {
      mkdirSync(path, { recursive: true, mode: 0o700 })
      withOpen(path, (fd) => {
        setProject(fd, project)
        limitProject(fd, project, bytes, Math.ceil(bytes / BYTES_PER_INODE))
      })
      for (const name of ["upper", "work"]) {
        mkdirSync(join(path, name), { recursive: true, mode: 0o755 })
        chownSync(join(path, name), owner, owner)
      }
      return { path, release: () => {} } // the run's until `release`
    } catch (cause) {
      throw new ControllerError("disk_failed", "The node could not make the container's disk.", { retryable: true, cause })
    }
  }

  async release(runId: RunId): Promise<void> {
    const project = this.#taken.get(runId)
    if (project === undefined) return
    // By rm(1): it walks by descriptor, so that a tree deeper than the longest path is no obstacle.
    const removed = await exec("rm", ["-rf", "--one-file-system", "--", join(this.#dir, runId)], { timeoutMs: REMOVE_TIMEOUT_MS })
    if (removed.code !== 0) throw new Error(`rm: ${removed.stderr.trim()}`)
    withOpen(this.#dir, (fd) => limitProject(fd, project, 0, 0))
    this.#taken.delete(runId)
  }

  async recover(live: readonly RunId[]): Promise<void> {
    const kept = new Set<string>(live)
    for (const runId of this.#taken.keys()) if (!kept.has(runId)) await this.release(runId as RunId)
  }

  async refill(): Promise<void> {}
  async close(): Promise<void> {}
}

/** Pure: the least number that is not taken. */
export function nextProject(taken: Iterable<number>): number {
  const all = new Set(taken)
  let project = FIRST_PROJECT
  while (all.has(project)) project++
  return project
}

/** Makes a small project and writes more than it may hold. */
function holds(dir: string): boolean {
  const path = join(dir, "trial")
  rmSync(path, { recursive: true, force: true })
  mkdirSync(path)
  try {
    withOpen(path, (fd) => {
      setProject(fd, TRIAL_PROJECT)
      limitProject(fd, TRIAL_PROJECT, TRIAL_LIMIT_BYTES, 100)
    })
    const { blocks, bsize } = statfsSync(path)
    return blocks * bsize <= TRIAL_LIMIT_BYTES && refusesMore(join(path, "file"))
  } catch {
    return false // an ioctl or a limit that this file system does not know
  } finally {
    rmSync(path, { recursive: true, force: true })
  }
}

function refusesMore(file: string): boolean {
  const fd = openSync(file, "w")
  try {
    return writeSync(fd, Buffer.alloc(TRIAL_WRITE_BYTES)) < TRIAL_WRITE_BYTES
  } catch (error) {
    return error instanceof Error && "code" in error && (error.code === "EDQUOT" || error.code === "ENOSPC")
  } finally {
    closeSync(fd)
  }
}

function withOpen<T>(path: string, use: (fd: number) => T): T {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    return use(fd)
  } finally {
    closeSync(fd)
  }
}
