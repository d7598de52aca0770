/** An image made on the spot from busybox-static, and a store that holds it alone: no registry, no unpacking. */
import { chmodSync, copyFileSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import type { ImageConfig, ImageStore, StoredImage } from "../../node-bridge/runtime/ports.ts"

const APPLETS = [
  "cat", "chown", "cut", "dd", "df", "echo", "env", "false", "grep", "head", "hostname", "id", "ip", "kill", "ls", "mkdir", "mount", "ps",
  "pwd", "rm", "seq", "sh", "sleep", "stat", "stty", "tail", "test", "touch", "true", "tty", "ulimit", "unshare", "usleep", "wget", "yes",
] // prettier-ignore

export const BUSYBOX_DIGEST = `sha256:${"b".repeat(64)}`

const CONFIG: ImageConfig = {
  entrypoint: ["/bin/sh", "-c"],
  cmd: ["echo from the image"],
  env: ["PATH=/bin:/usr/bin", "FROM_IMAGE=yes"],
  workdir: "",
  user: "",
  stopSignal: "SIGUSR1",
}

export function makeBusyboxRoot(rootDir: string): void {
  for (const dir of ["bin", "etc", "tmp", "home/web"]) mkdirSync(join(rootDir, dir), { recursive: true })
  chmodSync(join(rootDir, "tmp"), 0o1777)
  copyFileSync("/usr/bin/busybox", join(rootDir, "bin", "busybox"))
  for (const applet of APPLETS) symlinkSync("busybox", join(rootDir, "bin", applet))
  writeFileSync(join(rootDir, "etc", "passwd"), "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/home/web:/bin/sh\n")
  writeFileSync(join(rootDir, "etc", "group"), "root:x:0:\nweb:x:1000:\nextra:x:2000:web\n")
  writeFileSync(join(rootDir, "etc", "notes"), "not a program\n")
}

export function busyboxStore(rootDir: string, config: Partial<ImageConfig> = {}): ImageStore & { readonly holders: Set<string> } {
  const image: StoredImage = { digest: BUSYBOX_DIGEST, rootDir, config: { ...CONFIG, ...config } }
  const holders = new Set<string>()
  return {
    holders,
    ensure: () => Promise.resolve(image),
    retain: (_digest, holder) => void holders.add(holder),
    release: (holder) => void holders.delete(holder),
    collect: () => Promise.resolve(),
  }
}
