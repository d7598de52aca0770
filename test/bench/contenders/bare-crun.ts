/**
 * The floor: `crun run --detach` of the same root in a user namespace, with nobody to watch it, no log, no seccomp filter, no
 * limits and no way out of its network namespace.
 */
import { existsSync } from "node:fs"
import { mkdir, readdir, writeFile } from "node:fs/promises"
import { join } from "node:path"
import type { Contender } from "../harness/bench.ts"
import { command, timed } from "../harness/process.ts"
import { SLEEP } from "./workload.ts"

/** A range that is nobody's on a usual machine; the root is readable for all, so that nothing has to be chowned. */
const HOST_IDS = 3_000_000
const UNIFIED = "/sys/fs/cgroup/unified"

/** crun makes its standard streams the property of the container's root: a file of ours, or it would be the host's /dev/null. */
const fromFile = (stdin: string) => `exec crun "$@" <'${stdin}' >>'${stdin}' 2>&1`
/** crun refuses to create while cgroup v2 is mounted beside v1: hidden in a mount namespace of this one call, as the node-bridge does. */
const hidingV2 = ["unshare", "--mount", "--propagation=slave"]
const shell = (stdin: string): string[] =>
  existsSync(UNIFIED)
    ? [...hidingV2, "/bin/sh", "-c", `umount ${UNIFIED}; ${fromFile(stdin)}`, "crun"]
    : ["/bin/sh", "-c", fromFile(stdin), "crun"]

const config = (rootPath: string) => ({
  ociVersion: "1.0.0",
  process: {
    user: { uid: 0, gid: 0 },
    args: SLEEP,
    env: ["PATH=/bin"],
    cwd: "/",
    capabilities: { bounding: [], effective: [], permitted: [], inheritable: [], ambient: [] },
    noNewPrivileges: true,
  },
  root: { path: rootPath, readonly: true },
  mounts: [
    { destination: "/proc", type: "proc", source: "proc" },
    { destination: "/dev", type: "tmpfs", source: "tmpfs", options: ["nosuid", "strictatime", "mode=755", "size=65536k"] },
    { destination: "/sys", type: "sysfs", source: "sysfs", options: ["nosuid", "noexec", "nodev", "ro"] },
  ],
  linux: {
    uidMappings: [{ containerID: 0, hostID: HOST_IDS, size: 65_536 }],
    gidMappings: [{ containerID: 0, hostID: HOST_IDS, size: 65_536 }],
    namespaces: ["pid", "network", "ipc", "uts", "mount", "user", "cgroup"].map((type) => ({ type })),
  },
})

const rootOf = (folder: string) => ["--root", join(folder, "state")]

/** Those that a killed bench left in its folder. */
export async function deleteBareContainers(folder: string): Promise<void> {
  if (!existsSync(join(folder, "state"))) return
  for (const id of await readdir(join(folder, "state"))) await timed(command("crun", ...rootOf(folder), "delete", "--force", id))
}

/** `rootDir`: an unpacked root, with folders for proc, dev and sys. */
export async function bareCrun(folder: string, series: string, rootDir: string): Promise<Contender> {
  const bundle = join(folder, "bundle")
  await mkdir(bundle, { recursive: true })
  await writeFile(join(bundle, "config.json"), JSON.stringify(config(rootDir)))
  const root = rootOf(folder)
  const stdin = join(folder, "stdin")
  await writeFile(stdin, "")
  const [file, ...before] = shell(stdin)
  const id = `berth-bench-${process.pid}`
  return {
    name: "crun run --detach",
    once: async () => ({
      [series]: await timed(command(file ?? "crun", ...before, ...root, "run", "--detach", "--bundle", bundle, id)),
    }),
    tidy: async () => {
      await timed(command("crun", ...root, "delete", "--force", id))
    },
  }
}
