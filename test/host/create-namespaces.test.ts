/** The mount namespace that a container is created in, made and left by this very thread. */
import { execFileSync } from "node:child_process"
import { chmodSync, closeSync, mkdirSync, readFileSync, readlinkSync, rmSync, statSync, writeFileSync } from "node:fs"
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

/** Answers what a program prints that was started inside. */
const inside = (ask: RootLayout, ...[file = "", ...args]: string[]) =>
  creation.within(ask, () => execFileSync(file, args, { encoding: "utf8" }))
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
  const held = `/proc/${process.pid}/fd/${netns}`
  layout = { lower: "/tmp", dir, root: join(dir, "root"), sys: join(dir, "sys"), netns: held, devices: null }
})

afterEach(() => {
  closeSync(netns)
  rmSync(dir, { recursive: true })
})

test("shows the container's root and its network's interfaces, and the host sees neither", () => {
  const lower = detachedMount(join(dir, "lower"), MOUNT_ATTR.RDONLY, 0)
  const before = standpoint()
  const held = { ...layout, lower: `/proc/self/fd/${lower}` }
  const look = `cat ${held.root}/greeting; ls ${held.sys}/class/net; touch ${held.root}/new`
  expect(inside(held, "sh", "-c", look)).toBe("hellolo\n")
  expect(standpoint()).toEqual(before)
  expect(readFileSync(join(dir, "upper", "new"), "utf8")).toBe("")
  expect(() => readFileSync(join(dir, "root", "greeting"))).toThrow(/ENOENT/)
  closeSync(lower)
})

test("has a /dev/null of its own, which a runtime may give away", () => {
  const host = statSync("/dev/null", { bigint: true })
  const own = inside(layout, "sh", "-c", "echo gone > /dev/null && stat -c '%t:%T %a %d' /dev/null")
  expect(own).toMatch(/^1:3 666 \d+$/m)
  expect(own.trim().split(" ")[2]).not.toBe(String(host.dev))
  expect(inside(layout, "stat", "-c", "%d", "/tmp").trim()).toBe(String(statSync("/tmp").dev))
})

test("one that cannot be made throws, and the thread is where it was", () => {
  const before = standpoint()
  expect(() => inside({ ...layout, lower: join(dir, "absent").replaceAll(/[,:]/g, "") }, "true")).toThrow(/mount/)
  expect(() => inside({ ...layout, netns: "/proc/self/ns/absent" }, "true")).toThrow(/ENOENT/)
  expect(standpoint()).toEqual(before)
})
