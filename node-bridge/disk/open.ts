/** Which disks this host's runs get: the file system's own quotas where it keeps to them, else an image for each run. */
import type { Disks } from "../runtime/ports.ts"
import { ImageDisks } from "./image-disks.ts"
import { ProjectDisks } from "./project-disks.ts"

export interface DiskOptions {
  /** Folder of the disks' own under the state; made when absent. */
  readonly dir: string
  /** Disks kept ready, where they are images. */
  readonly poolSize?: number
}

/** Throws a sentence for the operator when neither can be had. */
export async function openDisks(options: DiskOptions): Promise<Disks> {
  return ProjectDisks.open(options.dir) ?? (await ImageDisks.open(options))
}
