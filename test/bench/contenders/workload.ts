/** What all contenders run: the image that `npm start` makes of busybox-static, in each one's own form. */
import { mkdir } from "node:fs/promises"
import { join } from "node:path"
import { makeHelloImage } from "../../../bin/hello-image.ts"
import { command, timed } from "../harness/process.ts"

/** A process that does nothing and stays. */
export const SLEEP = ["/bin/sleep", "3600"]

export interface Workload {
  /** How Docker knows it. */
  readonly image: string
  /** A docker-archive of it. */
  readonly archive: string
  /** Its unpacked root. */
  readonly rootDir: string
}

const DOCKER_NAME = "berth-bench:latest"

/** Makes the image below `imagesDir`, where the node-bridge looks for `localhost/hello`, and the other forms below `folder`. */
export async function makeWorkload(imagesDir: string, folder: string): Promise<Workload> {
  await makeHelloImage(imagesDir)
  await mkdir(folder, { recursive: true })
  const layout = `${join(imagesDir, "hello")}:latest`
  const archive = join(folder, "image.tar")
  const rootDir = join(folder, "root")
  await timed(
    command("skopeo", "--insecure-policy", "copy", "--quiet", `oci:${layout}`, `docker-archive:${archive}:${DOCKER_NAME}`),
  )
  await timed(command("umoci", "raw", "unpack", "--image", layout, rootDir))
  return { image: DOCKER_NAME, archive, rootDir }
}
