/** Makes the image of the first container on the spot, from Debian's busybox-static: no registry and no network needed. */
import { execFile } from "node:child_process"
import { chmod, copyFile, mkdir, mkdtemp, readFile, rename, rm, symlink, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { promisify } from "node:util"

const exec = promisify(execFile)
const BUSYBOX = "/bin/busybox"

const GREETING = `#!/bin/sh
echo "Hello from $(hostname), process $$ of its own world."
echo "I am uid $(id -u) in here, and I see $(ls -d /proc/[0-9]* | wc -l) processes."
echo "My network: $(ip -o -4 addr show | awk '{print $2" "$4}' | tr '\\n' ' ')"
sleep "\${1:-3}"
echo "Good-bye."
`

/** Writes an OCI layout with the tag `latest` to `<imagesDir>/hello`, unless it is there. A crash leaves no half of it. */
export async function makeHelloImage(imagesDir: string): Promise<void> {
  const layout = join(imagesDir, "hello")
  if (
    await readFile(join(layout, "index.json")).then(
      () => true,
      () => false,
    )
  )
    return
  await mkdir(imagesDir, { recursive: true })
  const scratch = await mkdtemp(join(imagesDir, ".hello-"))
  try {
    const root = join(scratch, "root")
    for (const folder of ["bin", "etc", "tmp", "proc", "sys", "dev", "root"]) await mkdir(join(root, folder), { recursive: true })
    await chmod(join(root, "tmp"), 0o1777)
    await copyFile(BUSYBOX, join(root, "bin/busybox"))
    const { stdout } = await exec(BUSYBOX, ["--list"])
    for (const applet of stdout.split("\n").filter((name) => name !== "" && name !== "busybox"))
      await symlink("busybox", join(root, "bin", applet))
    await writeFile(join(root, "bin/hello"), GREETING, { mode: 0o755 })
    await writeFile(join(root, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n")
    await writeFile(join(root, "etc/group"), "root:x:0:\nnogroup:x:65534:\n")
    const made = join(scratch, "layout")
    const image = `${made}:latest`
    await exec("umoci", ["init", "--layout", made])
    await exec("umoci", ["new", "--image", image])
    await exec("umoci", ["insert", "--image", image, root, "/"])
    await exec("umoci", ["config", "--image", image, "--config.cmd", "/bin/hello", "--config.env", "PATH=/bin"])
    await exec("umoci", ["gc", "--layout", made])
    await rename(made, layout)
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}
