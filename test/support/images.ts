/** Images made on the spot, with no network: layouts by umoci from busybox-static, and one real Debian 12 root. */
import { type ExecFileSyncOptions, execFileSync } from "node:child_process"
import { createHash } from "node:crypto"
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { gunzipSync, zstdCompressSync } from "node:zlib"
import { REF_NAME, parseConfig, parseIndex, parseManifest } from "../../node-bridge/image/manifest.ts"
import type { Descriptor } from "../../node-bridge/image/manifest.ts"
import type { WantedImage } from "../../node-bridge/runtime/ports.ts"
import { formatId } from "../../schema/ids.ts"

const quiet: ExecFileSyncOptions = { stdio: ["ignore", "ignore", "pipe"] }

const TENANT = formatId("ten", 1, new Uint8Array(10))

/** What a tenant without credentials asks a store for. */
export const wanted = (reference: string, digest: string | null = null, more: Partial<WantedImage> = {}): WantedImage => ({
  reference,
  digest,
  tenantId: TENANT,
  credentials: null,
  ...more,
})

const BUSYBOX = ["/usr/bin/busybox", "/bin/busybox"]
/** What tests and examples call by name. */
const APPLETS =
  "sh cat chmod chown cp cut date dd df echo env false free grep head hostname httpd id ip kill ln ls mkdir mknod mount mv nc nproc nslookup ping printf ps pwd readlink rm sed seq sleep sort stat stty su tail test time timeout top touch tr true umount uname vi wc wget whoami yes".split(
    " ",
  )

export interface ImageParts {
  /** Layers as uncompressed tar archives, the lowest first; default: a busybox root. */
  readonly layers?: readonly Buffer[]
  readonly cmd?: readonly string[]
  readonly entrypoint?: readonly string[]
  readonly env?: readonly string[]
  readonly workdir?: string
  readonly user?: string
  readonly architecture?: string
}

/** A folder for one test's files, outside the tree; the caller removes it. */
export const temporaryFolder = (what: string) => mkdtempSync(join(tmpdir(), `berth-${what}-`))

let busybox: Buffer | null = null

/** A small root as a tar archive: /bin/busybox with its usual names, users root and nobody, and the usual folders. */
export function busyboxLayer(): Buffer {
  if (busybox !== null) return busybox
  const source = BUSYBOX.find((path) => existsSync(path))
  if (source === undefined) throw new Error("busybox-static is not installed: apt-get install busybox-static")
  const root = temporaryFolder("busybox")
  for (const folder of ["bin", "etc", "tmp", "root", "var", "usr", "proc", "sys", "dev", "run"]) mkdirSync(join(root, folder))
  cpSync(source, join(root, "bin/busybox"))
  for (const name of APPLETS) symlinkSync("busybox", join(root, "bin", name))
  writeFileSync(join(root, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
  writeFileSync(join(root, "etc/group"), "root:x:0:\nnogroup:x:65534:\n")
  execFileSync("chmod", ["1777", join(root, "tmp")], quiet)
  busybox = tarOf(root)
  rmSync(root, { recursive: true })
  return busybox
}

function tarOf(root: string): Buffer {
  const owner = ["--owner=0", "--group=0", "--numeric-owner", "--sort=name"]
  return execFileSync("tar", ["-C", root, ...owner, "-cf", "-", "."], { maxBuffer: 1 << 30 })
}

/** `umoci config` options of a list. */
const each = (name: string, values: readonly string[] | undefined) =>
  (values ?? []).flatMap((value) => [`--config.${name}`, value])

/** Puts an image into a layout, which is made when absent. Answers the digest of its manifest. */
export function makeImage(layout: string, tag: string, parts: ImageParts = {}): string {
  if (!existsSync(join(layout, "oci-layout"))) {
    mkdirSync(join(layout, ".."), { recursive: true })
    execFileSync("umoci", ["init", "--layout", layout], quiet)
  }
  const image = `${layout}:${tag}`
  execFileSync("umoci", ["new", "--image", image], quiet)
  for (const layer of parts.layers ?? [busyboxLayer()]) {
    const scratch = temporaryFolder("layer")
    writeFileSync(join(scratch, "layer.tar"), layer)
    execFileSync("umoci", ["raw", "add-layer", "--image", image, join(scratch, "layer.tar")], quiet)
    rmSync(scratch, { recursive: true })
  }
  execFileSync(
    "umoci",
    [
      "config",
      "--image",
      image,
      ...each("cmd", parts.cmd ?? ["sh"]),
      ...each("entrypoint", parts.entrypoint),
      ...each("env", parts.env ?? ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]),
      ...each("workingdir", parts.workdir === undefined ? undefined : [parts.workdir]),
      ...each("user", parts.user === undefined ? undefined : [parts.user]),
      ...(parts.architecture === undefined ? [] : ["--architecture", parts.architecture]),
    ],
    quiet,
  )
  const found = parseIndex(readFileSync(join(layout, "index.json"), "utf8")).find(
    ({ annotations }) => annotations?.[REF_NAME] === tag,
  )
  if (found === undefined) throw new Error(`umoci made no ${image}`)
  return found.digest
}

const sha256 = (data: Buffer) => `sha256:${createHash("sha256").update(data).digest("hex")}`
const blobOf = (layout: string, digest: string) => join(layout, "blobs", ...digest.split(":"))

function addBlob(layout: string, data: Buffer): { digest: string; size: number } {
  const digest = sha256(data)
  writeFileSync(blobOf(layout, digest), data)
  return { digest, size: data.length }
}

/** Changes what a tag of a layout stands for. */
function retag(layout: string, tag: string, make: (old: Descriptor | undefined) => Descriptor): string {
  const file = join(layout, "index.json")
  const manifests = [...parseIndex(readFileSync(file, "utf8"))]
  const at = manifests.findIndex(({ annotations }) => annotations?.[REF_NAME] === tag)
  const made = { ...make(manifests[at]), annotations: { [REF_NAME]: tag } }
  manifests.splice(at === -1 ? manifests.length : at, at === -1 ? 0 : 1, made)
  writeFileSync(file, JSON.stringify({ schemaVersion: 2, manifests }))
  return made.digest
}

/** Packs the layers of a tag again, with zstd. Answers the new digest. */
export function withZstdLayers(layout: string, tag: string): string {
  return retag(layout, tag, (old) => {
    if (old === undefined) throw new Error(`no ${tag} in ${layout}`)
    const manifest = parseManifest(readFileSync(blobOf(layout, old.digest), "utf8"))
    const layers = manifest.layers.map(({ digest }) => ({
      mediaType: "application/vnd.oci.image.layer.v1.tar+zstd",
      ...addBlob(layout, zstdCompressSync(gunzipSync(readFileSync(blobOf(layout, digest))))),
    }))
    return { ...old, ...addBlob(layout, Buffer.from(JSON.stringify({ ...manifest, schemaVersion: 2, layers }))) }
  })
}

/** Makes an index of tags that are in the layout, each with the platform of its config. Answers the index's digest. */
export function makeIndex(layout: string, tag: string, of: readonly string[]): string {
  const known = parseIndex(readFileSync(join(layout, "index.json"), "utf8"))
  const manifests = of.map((name) => {
    const found = known.find(({ annotations }) => annotations?.[REF_NAME] === name)
    if (found === undefined) throw new Error(`no ${name} in ${layout}`)
    const manifest = parseManifest(readFileSync(blobOf(layout, found.digest), "utf8"))
    const [os = "", architecture = ""] = parseConfig(readFileSync(blobOf(layout, manifest.config.digest), "utf8")).platform.split(
      "/",
    )
    return { mediaType: found.mediaType, digest: found.digest, size: found.size, platform: { os, architecture } }
  })
  const index = addBlob(layout, Buffer.from(JSON.stringify({ schemaVersion: 2, manifests })))
  return retag(layout, tag, () => ({ mediaType: "application/vnd.oci.image.index.v1+json", ...index }))
}

/** Kept between test runs: making it takes half a minute and needs the Debian mirror that apt is set up with. */
const DEBIAN_CACHE = join(tmpdir(), "berth-test-cache")

/** The mirror that apt is set up with. */
export const debianMirror = () =>
  /^URIs: (\S+debian)$/m.exec(readIfThere("/etc/apt/sources.list.d/debian.sources"))?.[1] ?? "http://deb.debian.org/debian"

/** A real Debian 12 root as a tar archive on disk. */
export function debianRoot(): string {
  const archive = join(DEBIAN_CACHE, "debian-12-minbase.tar")
  if (existsSync(archive)) return archive
  mkdirSync(DEBIAN_CACHE, { recursive: true })
  const fresh = join(mkdtempSync(join(DEBIAN_CACHE, "new-")), "root.tar")
  execFileSync("mmdebstrap", ["--variant=minbase", "bookworm", fresh, debianMirror()], quiet)
  renameSync(fresh, archive)
  rmSync(join(fresh, ".."), { recursive: true })
  return archive
}

/** The same as a layout with the tag `12`, kept as well: packing its one layer takes ten seconds. */
export function debianLayout(): string {
  const layout = join(DEBIAN_CACHE, "debian-12-layout")
  if (existsSync(layout)) return layout
  const root = readFileSync(debianRoot())
  const fresh = join(mkdtempSync(join(DEBIAN_CACHE, "new-")), "layout")
  makeImage(fresh, "12", { layers: [root], cmd: ["bash"] })
  renameSync(fresh, layout)
  rmSync(join(fresh, ".."), { recursive: true })
  return layout
}

const readIfThere = (path: string) => (existsSync(path) ? readFileSync(path, "utf8") : "")
