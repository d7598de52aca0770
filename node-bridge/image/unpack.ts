/**
 * From a verified layout to a root on disk: read the documents, look through every layer, check the space, unpack, take the
 * device nodes away, and see that all of it is on disk. Everything happens in a temporary folder that the caller renames
 * when this has succeeded and deletes when it has not.
 */
import { createReadStream } from "node:fs"
import { lstat, open, readFile, realpath, statfs, unlink } from "node:fs/promises"
import { basename, dirname, join } from "node:path"
import { pipeline } from "node:stream/promises"
import { createGunzip } from "node:zlib"
import { corrupt, faultOf, refused, tooLarge, wrongArchitecture } from "./faults.ts"
import type { Descriptor, Manifest, ParsedConfig } from "./manifest.ts"
import { DocumentError, MAX_DOCUMENT_BYTES, parseConfig, parseIndex, parseManifest } from "./manifest.ts"
import type { ScanLimits, Verdict } from "./prescan.ts"
import { MOUNT_TARGETS, Prescan } from "./prescan.ts"
import { LAYOUT_TAG, nodePlatform, tool } from "./source.ts"
import { TarError, TarReader } from "./tar-reader.ts"

/** Kept free for everything else on the disk: journals, logs, the roots of running containers. */
const SPARE_DISK_BYTES = 256 * 1024 ** 2
/** umoci unpacks some 80 MB/s here; an image at the size limit on a slow disk takes minutes. */
const UNPACK_TIMEOUT_MS = 20 * 60 * 1000
const GUNZIP_CHUNK_BYTES = 256 * 1024

export interface Unpacked extends ParsedConfig {
  /** The digest of the manifest in the layout; conversion and re-compression change it from the registry's. */
  readonly layoutDigest: string
  readonly bytes: number
  readonly entries: number
}

/** Unpacks `DIR/layout` to `DIR/rootfs`. */
export async function unpack(dir: string, limits: ScanLimits, signal: AbortSignal): Promise<Unpacked> {
  const { layoutDigest, manifest, parsed } = await readDocuments(join(dir, "layout"))
  if (parsed.platform !== nodePlatform()) throw wrongArchitecture(parsed.platform.slice(0, 100), nodePlatform())
  const scan = new Prescan(limits)
  for (const layer of manifest.layers) await scanLayer(scan, blobPath(dir, layer), layer, signal)
  await requireSpace(dir, scan.bytes)
  await tool("umoci", ["raw", "unpack", "--image", `layout:${LAYOUT_TAG}`, "rootfs"], {
    timeoutMs: UNPACK_TIMEOUT_MS,
    signal,
    cwd: dir,
  })
  const root = await realpath(join(dir, "rootfs"))
  for (const path of scan.devices) await removeDevice(root, path)
  await checkMountTargets(root)
  await sync(dir, signal)
  return { ...parsed, layoutDigest, bytes: scan.bytes, entries: scan.entries }
}

const blobPath = (dir: string, { digest }: Descriptor) => join(dir, "layout", "blobs", ...digest.split(":"))

async function document(path: string): Promise<string> {
  if ((await lstat(path)).size > MAX_DOCUMENT_BYTES) throw corrupt("one of its documents is too large")
  return await readFile(path, "utf8")
}

async function readDocuments(layout: string): Promise<{ layoutDigest: string; manifest: Manifest; parsed: ParsedConfig }> {
  const blob = ({ digest }: Descriptor) => document(join(layout, "blobs", ...digest.split(":")))
  try {
    const [descriptor] = parseIndex(await document(join(layout, "index.json")))
    if (descriptor === undefined) throw new DocumentError("its layout is empty")
    const manifest = parseManifest(await blob(descriptor))
    return { layoutDigest: descriptor.digest, manifest, parsed: parseConfig(await blob(manifest.config)) }
  } catch (error) {
    if (error instanceof DocumentError) throw corrupt(error.message)
    throw error
  }
}

function heed(verdict: Verdict | null): void {
  if (verdict !== null) throw verdict.kind === "refused" ? refused(verdict.why) : tooLarge(verdict.why)
}

async function scanLayer(scan: Prescan, path: string, layer: Descriptor, signal: AbortSignal): Promise<void> {
  const reader = new TarReader()
  const packed = (await lstat(path)).size
  let unpacked = 0
  const look = async (chunks: AsyncIterable<Buffer>) => {
    for await (const chunk of chunks) {
      unpacked += chunk.length
      heed(scan.seeRatio(unpacked, packed))
      for (const entry of reader.push(chunk)) heed(scan.see(entry))
    }
    reader.end()
  }
  try {
    const file = createReadStream(path)
    if (layer.mediaType.endsWith("gzip")) await pipeline(file, createGunzip({ chunkSize: GUNZIP_CHUNK_BYTES }), look, { signal })
    else await pipeline(file, look, { signal })
  } catch (error) {
    signal.throwIfAborted()
    if (error instanceof TarError) throw corrupt(`a layer is no archive that can be read in one way: ${error.message}`)
    if (error instanceof Error && "code" in error && String(error.code).startsWith("Z_")) throw corrupt("a layer is not gzip")
    throw error
  }
}

/** Before the first byte is written: a full disk would hurt every container on the host. */
async function requireSpace(dir: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(dir)
  if (bavail * bsize < bytes + SPARE_DISK_BYTES) throw faultOf("store", "no space left on device")
}

/** A device node that the image brought. Links on the way to it are followed only as long as they stay in the root. */
async function removeDevice(root: string, path: string): Promise<void> {
  try {
    const parent = await realpath(join(root, dirname(path)))
    if (parent !== root && !parent.startsWith(`${root}/`)) return
    const node = join(parent, basename(path))
    const stat = await lstat(node)
    if (stat.isCharacterDevice() || stat.isBlockDevice()) await unlink(node)
  } catch (error) {
    // A later layer took it away.
    if (!(error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENOTDIR"))) throw error
  }
}

/** What the archives were looked through for by name, seen again on disk, where links have had their effect. */
async function checkMountTargets(root: string): Promise<void> {
  for (const name of MOUNT_TARGETS) {
    const stat = await lstat(join(root, name)).catch(() => null)
    if (stat !== null && !stat.isDirectory()) throw refused(`/${name} is not a directory`)
  }
}

/** One call for the whole file system: cheaper than one for each of ten thousand files. */
async function sync(dir: string, signal: AbortSignal): Promise<void> {
  await tool("sync", ["--file-system", "."], { timeoutMs: UNPACK_TIMEOUT_MS, signal, cwd: dir })
}

/** Makes a rename in this folder last through a power cut. */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, "r")
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
