/**
 * Hostile images, each through the real store, and each once more without its scan: what the program that unpacks would have
 * made of it by itself, and what the runtimes would then have done to the host.
 */
import { execFileSync, spawnSync } from "node:child_process"
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { SCAN_LIMITS } from "../../node-bridge/image/prescan.ts"
import { DirectoryImageStore } from "../../node-bridge/image/store.ts"
import { exitsWithUid } from "../support/elf.ts"
import { never, openHostBench } from "../support/host-bench.ts"
import type { HostBench } from "../support/host-bench.ts"
import { busyboxLayer, makeImage, temporaryFolder, wanted } from "../support/images.ts"
import { paxHeader, tarArchive, tarEntry } from "../support/tar.ts"

const first = (command: string) =>
  execFileSync(command, ["--version"], { encoding: "utf8" })
    .split("\n")[0]
    ?.replace(/version /, "")
const [UMOCI, RUNC, CRUN] = [first("umoci"), first("runc"), first("crun")]

const dir = temporaryFolder("corpus")
/** Stands for the host: whatever an image writes or takes away here, it has got out. */
const canary = join(dir, "canary")
const UP = "../".repeat(20)
const OUT = `${UP}${canary.slice(1)}`
const link = (path: string, target: string) => tarEntry({ path, type: "2", target })
const folder = (path: string) => tarEntry({ path, type: "5" })
const evil = (path: string) => tarEntry({ path, data: "evil" })

let store: DirectoryImageStore
let bench: HostBench

beforeAll(async () => {
  chmodSync(dir, 0o755)
  restoreCanary()
  const limits = { ...SCAN_LIMITS, maxBytes: 64 * 1024 ** 2, maxEntries: 500, freeRatioBytes: 8 * 1024 ** 2 }
  store = await DirectoryImageStore.open({ dir: join(dir, "store"), imagesDir: dir, limits })
  bench = await openHostBench({ images: store })
})
afterAll(async () => {
  await bench.close()
  rmSync(dir, { recursive: true })
})

function restoreCanary(): void {
  rmSync(canary, { recursive: true, force: true })
  mkdirSync(canary)
  writeFileSync(join(canary, "file"), "untouched")
  writeFileSync(join(canary, "ptmx"), "untouched")
}
const host = () => readdirSync(canary).map((name) => [name, lstatSync(join(canary, name)).isFile()])
const UNTOUCHED = [
  ["file", true],
  ["ptmx", true],
]
function expectUntouched(): void {
  expect(host()).toEqual(UNTOUCHED)
  expect(readFileSync(join(canary, "file"), "utf8")).toBe("untouched")
}

/** Unpacks without any scan; answers what umoci said, or null when it was content. */
function unpackAlone(tag: string): string | null {
  const { status, stderr } = spawnSync("umoci", ["raw", "unpack", "--image", `${dir}/image:${tag}`, rootOf(tag)], {
    encoding: "utf8",
  })
  return status === 0 ? null : stderr
}
const rootOf = (tag: string) => join(dir, `root-${tag}`)

interface Hostile {
  readonly what: string
  readonly layers: readonly (readonly Buffer[])[]
  readonly why: string
  readonly code?: string
  /** What umoci does by itself: it says no, or it makes this of it. */
  readonly alone: RegExp | ((root: string) => void)
}

/** Clamped: the file lies inside the root, at the place that it named on the host. */
const inside = (name: string) => (root: string) => expect(existsSync(join(root, canary, name))).toBe(true)

const HOSTILE: readonly Hostile[] = [
  { what: "a path that climbs", layers: [[evil(`${OUT}/new`)]], why: "climbs out", alone: inside("new") },
  {
    what: "a link out that climbs, and a file through it",
    layers: [[link("a", OUT), evil("a/file")]],
    why: "symbolic link leads out",
    alone: inside("file"),
  },
  {
    what: "a link out in one layer, and a file through it in the next",
    layers: [[link("a", OUT)], [evil("a/file")]],
    why: "symbolic link leads out",
    alone: inside("file"),
  },
  {
    what: "a hard link out",
    layers: [[tarEntry({ path: "h", type: "1", target: `${OUT}/file` }), evil("h")]],
    why: "hard link leads out",
    alone: /link: no such file/,
  },
  {
    what: "a root that is a link",
    layers: [[link("./", canary), evil("file")]],
    why: "replaces the root",
    alone: /root directory/,
  },
  {
    what: "a whiteout of its own folder",
    layers: [[folder("d")], [evil("d/.wh..")]],
    why: "hides no file",
    alone: /no such file/,
  },
  {
    what: "a whiteout of the folder above",
    layers: [[folder("d")], [evil("d/.wh...")]],
    why: "hides no file",
    alone: /no such file/,
  },
  {
    what: "files inside a whiteout",
    layers: [[evil("d/.wh.x/y")]],
    why: "whiteout has entries inside",
    alone: (root) => expect(existsSync(join(root, "d/.wh.x/y"))).toBe(true),
  },
  ...["dev", "proc", "sys"].map((name) => ({
    what: `/${name} as a link (CVE-2026-41579 of runc, CVE-2026-47766 of crun)`,
    layers: [[link(name, canary)]],
    why: `/${name} is not a directory`,
    alone: (root: string) => expect(readlinkSync(join(root, name))).toBe(canary),
  })),
  {
    what: "/dev as a directory at first, then as a link",
    layers: [[folder("dev")], [tarEntry({ path: ".wh.dev" }), link("dev", canary)]],
    why: "/dev is not a directory",
    alone: (root) => expect(readlinkSync(join(root, "dev"))).toBe(canary),
  },
  {
    what: "/dev as a link that comes through a link",
    layers: [[link("a", "/")], [link("a/dev", canary)]],
    why: "/dev is not a directory",
    alone: (root) => expect(readlinkSync(join(root, "dev"))).toBe(canary),
  },
  {
    what: "/proc as a file",
    layers: [[evil("proc")]],
    why: "/proc is not a directory",
    alone: (root) => expect(statSync(join(root, "proc")).isFile()).toBe(true),
  },
  {
    what: "an owner whom no tenant is",
    layers: [[tarEntry({ path: "x", uid: 70_000 })]],
    why: "id above 65535",
    alone: (root) => expect(statSync(join(root, "x")).uid).toBe(70_000),
  },
  {
    what: "directories deeper than anybody needs",
    layers: [[paxHeader({ path: `${"d/".repeat(300)}x` }), evil("x")]],
    why: "more than 256 deep",
    alone: (root) => expect(existsSync(join(root, "d/".repeat(300)))).toBe(true),
  },
  {
    what: "a thousand empty files",
    layers: [Array.from({ length: 1_000 }, (_, at) => tarEntry({ path: `f${at}` }))],
    why: "more than 500 files",
    code: "image_too_large",
    alone: (root) => expect(readdirSync(root)).toHaveLength(1_000),
  },
  {
    what: "a file of a size that it does not have",
    layers: [[tarEntry({ path: "x", size: 100 * 1024 ** 2 })]],
    why: "more than 67108864 bytes",
    code: "image_too_large",
    alone: /unexpected EOF/,
  },
  {
    what: "twenty MiB out of twenty KiB",
    layers: [[tarEntry({ path: "x", data: Buffer.alloc(20 * 1024 ** 2) })]],
    why: "more than 200 times its size",
    code: "image_too_large",
    alone: (root) => expect(statSync(join(root, "x")).size).toBe(20 * 1024 ** 2),
  },
]

describe.each(HOSTILE.map((hostile, at) => ({ ...hostile, tag: `hostile-${at}` })))("an image with $what", (hostile) => {
  it("is refused by name before it is unpacked, and the host is untouched", async () => {
    makeImage(join(dir, "image"), hostile.tag, { layers: hostile.layers.map((entries) => tarArchive(...entries)) })
    await expect(store.ensure(wanted(`localhost/image:${hostile.tag}`), never)).rejects.toMatchObject({
      reason: { code: hostile.code ?? "image_refused", message: expect.stringContaining(hostile.why) },
      retryable: false,
    })
    expect(readdirSync(join(dir, "store"))).toEqual([])
    expectUntouched()
  })

  it(`${hostile.alone instanceof RegExp ? "is refused" : "is taken, and kept inside the root,"} by ${UMOCI} alone`, () => {
    const said = unpackAlone(hostile.tag)
    if (hostile.alone instanceof RegExp) expect(said).toMatch(hostile.alone)
    else {
      expect(said).toBeNull()
      hostile.alone(rootOf(hostile.tag))
    }
    expectUntouched()
    rmSync(rootOf(hostile.tag), { recursive: true, force: true })
  })
})

describe("without the scan, an image whose /dev is a link", () => {
  beforeAll(() => {
    const layers = [busyboxLayer(), tarArchive(tarEntry({ path: ".wh.dev" }), link("dev", canary))]
    makeImage(join(dir, "image"), "dev", { layers })
    expect(unpackAlone("dev")).toBeNull()
  })
  afterAll(restoreCanary)

  /** `runtime run` as it comes: no user namespace, and the bundle that the runtime itself proposes. */
  function runBare(runtime: "runc" | "crun"): void {
    restoreCanary()
    const bundle = join(dir, `bundle-${runtime}`)
    mkdirSync(bundle)
    execFileSync("runc", ["spec", "--bundle", bundle])
    const spec = JSON.parse(readFileSync(join(bundle, "config.json"), "utf8"))
    spec.process = { ...spec.process, terminal: false, args: ["/bin/true"] }
    spec.root = { path: rootOf("dev") }
    spec.mounts = spec.mounts.filter(({ destination }: { destination: string }) => destination !== "/sys/fs/cgroup")
    spec.linux.namespaces = spec.linux.namespaces.filter(({ type }: { type: string }) => type !== "cgroup")
    writeFileSync(join(bundle, "config.json"), JSON.stringify(spec))
    // Old crun will not run beside a v2 hierarchy on a v1 machine.
    const script = 'umount /sys/fs/cgroup/unified 2>/dev/null; exec "$0" "$@"'
    const run = [runtime, `--root=${bundle}/state`, "run", "--bundle", bundle, `corpus-${process.pid}`]
    spawnSync("unshare", ["--mount", "--propagation=slave", "sh", "-c", script, ...run], { stdio: "ignore" })
  }

  it(`lets ${RUNC} take a file of the host away and put links there (CVE-2026-41579)`, () => {
    runBare("runc")
    expect(lstatSync(join(canary, "ptmx")).isSymbolicLink()).toBe(true)
    expect(readlinkSync(join(canary, "fd"))).toBe("/proc/self/fd")
  })

  it(`lets ${CRUN} put device nodes on the host (CVE-2026-47766)`, () => {
    runBare("crun")
    expect(lstatSync(join(canary, "ptmx")).isSymbolicLink()).toBe(true)
    expect(lstatSync(join(canary, "null")).isCharacterDevice()).toBe(true)
  })
})

/** Takes the image in and runs it as user 65534, and unpacks it once more by itself. */
async function taken(tag: string, entries: readonly Buffer[], command: readonly string[]) {
  makeImage(join(dir, "image"), tag, { layers: [busyboxLayer(), tarArchive(...entries)] })
  expect(unpackAlone(tag)).toBeNull()
  const image = await store.ensure(wanted(`localhost/image:${tag}`), never)
  const run = bench.shell("", { image: `localhost/image:${tag}`, command: [...command], user: "65534:65534" })
  const { outcome, text } = await bench.through(run)
  await bench.controller.remove(run.run_id)
  return { rootDir: image.rootDir, code: outcome.exit.code, text }
}
const asNobody = (root: string, [file = "", ...args]: readonly string[]) =>
  spawnSync("setpriv", ["--reuid=65534", "--regid=65534", "--clear-groups", join(root, file), ...args], { encoding: "utf8" })

describe("an image may have, because it comes to nothing here,", () => {
  it("set-uid programs: they run as who calls them, while on the host they would be root", async () => {
    const { rootDir, code } = await taken(
      "setuid",
      [tarEntry({ path: "bin/su", mode: 0o4755, data: exitsWithUid() })],
      ["/bin/su"],
    )
    expect(statSync(join(rootDir, "bin/su")).mode & 0o7777).toBe(0o4755)
    expect(code).toBe(65_534 & 0xff)
    expect(asNobody(rootOf("setuid"), ["bin/su"]).status).toBe(0)
  })

  it("programs with capabilities: they have none of them, while on the host they would", async () => {
    // struct vfs_cap_data, revision 2, effective: CAP_SYS_ADMIN (bit 21).
    const capability = "\x01\0\0\x02\0\0\x20\0".padEnd(20, "\0")
    const file = tarEntry({ path: "bin/busybox-able", mode: 0o755, data: readFileSync("/usr/bin/busybox") })
    const command = ["/bin/busybox-able", "grep", "CapEff", "/proc/self/status"]
    const { text } = await taken("able", [paxHeader({ "SCHILY.xattr.security.capability": capability }), file], command)
    expect(text).toMatch(/CapEff:\s+0{16}$/)
    expect(asNobody(rootOf("able"), command).stdout).toMatch(/CapEff:\s+0{10}200000\s*$/)
  })

  it("device nodes: they are taken away, behind links too, while by itself the disk of the host would lie there", async () => {
    const disk = { type: "4", device: [254, 0], mode: 0o666 } as const
    const entries = [tarEntry({ path: "disk", ...disk }), link("a", "/etc"), tarEntry({ path: "a/disk", ...disk })]
    const { rootDir, text } = await taken("device", entries, ["sh", "-c", "ls /disk /etc/disk 2>&1"])
    for (const path of ["disk", "etc/disk"]) {
      expect(existsSync(join(rootDir, path))).toBe(false)
      expect(lstatSync(join(rootOf("device"), path))).toMatchObject({ rdev: (254 << 8) | 0 })
    }
    expect(text.match(/No such file/g)).toHaveLength(2)
  })

  it(`attributes of the overlay file system: ${UMOCI} leaves them out`, async () => {
    const redirect = paxHeader({ "SCHILY.xattr.trusted.overlay.redirect": "/etc" })
    const { rootDir } = await taken("redirect", [redirect, folder("secret")], ["sh", "-c", "ls /secret"])
    const python = "import os, sys; print(os.listxattr(sys.argv[1]))"
    expect(execFileSync("python3", ["-c", python, join(rootDir, "secret")], { encoding: "utf8" })).toBe("[]\n")
  })
})
