/** An image of busybox and the probe that finds which system calls a filter lets past. */
import { copyFile, cp, mkdir } from "node:fs/promises"
import { join } from "node:path"
import { makeHelloImage } from "../../../bin/hello-image.ts"
import { command, timed } from "../harness/process.ts"

export interface ReachImage {
  /** As Berth and as Docker name it. */
  readonly berth: string
  readonly docker: string
  readonly archive: string
}

export async function makeReachImage(imagesDir: string, folder: string, probe: string): Promise<ReachImage> {
  await makeHelloImage(imagesDir)
  const layout = join(imagesDir, "reach")
  await cp(join(imagesDir, "hello"), layout, { recursive: true })
  const image = `${layout}:latest`
  const root = join(folder, "reach-root")
  await mkdir(join(root, "bin"), { recursive: true })
  await mkdir(join(root, "var")) // umoci does not pad a layer's last file, which the node-bridge refuses: a folder comes last
  await copyFile(probe, join(root, "bin/reach"))
  await timed(command("umoci", "insert", "--image", image, root, "/"))
  const archive = join(folder, "reach.tar")
  const docker = "berth-bench-reach:latest"
  await timed(command("skopeo", "--insecure-policy", "copy", "--quiet", `oci:${image}`, `docker-archive:${archive}:${docker}`))
  return { berth: "localhost/reach", docker, archive }
}
