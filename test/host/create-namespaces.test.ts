/** The mount namespace that a container is created in, made and left by this very thread. */
import { execFileSync } from "node:child_process"
import { chmodSync, closeSync, mkdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { afterEach, beforeEach, expect, test } from "vitest"
import { CreateNamespaces } from "../../node-bridge/mount/create-namespaces.ts"
import type { RootLayout } from "../../node-bridge/mount/create-namespaces.ts"
import { detachedMount, MOUNT_ATTR } from "../../node-bridge/native/libc.ts"
import { NamespaceMaker } from "../../node-bridge/network/namespaces.ts"
import { temporaryFolder } from "../support/images.ts"

let dir = ""
let layout: RootLayout
let netns = -1
const creation = new CreateNamespaces(null)
const networks = new NamespaceMaker()

const inside = (path: string, ...words: string[]) => execFileSync("nsenter", [`--mount=${path}`, ...words], { encoding: "utf8" })
const standpoint = () => [
  ...["ns/mnt", "ns/net", "cwd", "root"].map((name) => readlinkSync(`/proc/thread-self/${name}`)),
  readFileSync("/proc/self/mountinfo", "utf8"),
]

beforeEach(() => {
  dir = temporaryFolder("a,b:c") // what would be syntax in a mount option
  for (const name of ["lower", "upper", "work", "root", "sys"]) mkdirSync(join(dir, name))
  chmodSync(dir, 0o711)
  writeFileSync(join(dir, "lower", "greeting"), "hello")
  netns = networks.loopbackOnly()
  layout = {
    lower: "/tmp",
    dir,
    root: join(dir, "root"),
    sys: join(dir, "sys"),
    netns: `/proc/${process.pid}/fd/${netns}`,
    devices: null,
  }
})

afterEach(() => {
  closeSync(netns)
  rmSync(dir, { recursive: true })
})

test("shows the container's root and its network's interfaces, and the host sees neither", () => {
  const lower = detachedMount(join(dir, "lower"), MOUNT_ATTR.RDONLY, 0)
  const before = standpoint()
  const made = creation.make({ ...layout, lower: `/proc/self/fd/${lower}` })
  expect(standpoint()).toEqual(before)
  expect(inside(made.path, "cat", join(dir, "root", "greeting"))).toBe("hello")
  expect(inside(made.path, "ls", join(dir, "sys", "class", "net"))).toBe("lo\n")
  inside(made.path, "touch", join(dir, "root", "new"))
  expect(readFileSync(join(dir, "upper", "new"), "utf8")).toBe("")
  expect(() => readFileSync(join(dir, "root", "greeting"))).toThrow(/ENOENT/)
  made.release()
  made.release()
  closeSync(lower)
})

test("one that cannot be made throws, and the thread is where it was", () => {
  const before = standpoint()
  expect(() => creation.make({ ...layout, lower: join(dir, "absent").replaceAll(/[,:]/g, "") })).toThrow(/mount/)
  expect(() => creation.make({ ...layout, netns: "/proc/self/ns/absent" })).toThrow(/ENOENT/)
  expect(standpoint()).toEqual(before)
})
