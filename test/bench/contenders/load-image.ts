/** The image of the loads: busybox, `load`, and this machine's own redis, nginx, wrk and SQLite, so that all contenders run the same bytes. */
import { cp, copyFile, mkdir } from "node:fs/promises"
import { dirname, join } from "node:path"
import { makeHelloImage } from "../../../bin/hello-image.ts"
import { command, output, timed } from "../harness/process.ts"

const SERVERS = ["redis-server", "redis-benchmark", "redis-cli", "nginx", "wrk", "sqlite3"]
const SOURCE = join(import.meta.dirname, "../programs/load.c")

export interface LoadImage {
  /** As Berth and as Docker name it. */
  readonly berth: string
  readonly docker: string
  readonly archive: string
  /** The folder of `load` on the host. */
  readonly hostBin: string
  /** Those of the servers that this machine has not. */
  readonly missing: readonly string[]
}

export async function makeLoadImage(imagesDir: string, folder: string): Promise<LoadImage> {
  const hostBin = join(folder, "bin")
  const root = join(folder, "root")
  await mkdir(hostBin, { recursive: true })
  await mkdir(join(root, "bin"), { recursive: true })
  await timed(command("gcc", "-static", "-O2", "-Wall", "-Werror", "-o", join(hostBin, "load"), SOURCE))
  await copyFile(join(hostBin, "load"), join(root, "bin/load"))
  const missing: string[] = []
  for (const server of SERVERS) if (!(await copyWithLibraries(server, root))) missing.push(server)

  await mkdir(join(root, "var")) // umoci does not pad a layer's last file, which the node-bridge refuses: a folder comes last

  await makeHelloImage(imagesDir)
  const layout = join(imagesDir, "loads")
  await cp(join(imagesDir, "hello"), layout, { recursive: true })
  const image = `${layout}:latest`
  await timed(command("umoci", "insert", "--image", image, root, "/"))
  const archive = join(folder, "image.tar")
  const docker = "berth-bench-loads:latest"
  await timed(command("skopeo", "--insecure-policy", "copy", "--quiet", `oci:${image}`, `docker-archive:${archive}:${docker}`))
  return { berth: "localhost/loads", docker, archive, hostBin, missing }
}

/** Below `root`, each library where the program looks for it. False when the program is not installed. */
async function copyWithLibraries(program: string, root: string): Promise<boolean> {
  const file = (await output(command("/bin/sh", "-c", `PATH=$PATH:/usr/sbin command -v ${program}`)))?.trim()
  if (!file) return false
  const libraries = ((await output(command("ldd", file))) ?? "").match(/\/\S+/g) ?? []
  for (const path of [...libraries, file]) {
    const target = path === file ? join(root, "usr/bin", program) : join(root, path)
    await mkdir(dirname(target), { recursive: true })
    await copyFile(path, target)
  }
  return true
}
