/**
 * The three documents of an image, read defensively: index, manifest, config (OCI image specification 1.0 and Docker v2s2,
 * https://github.com/opencontainers/image-spec). Everything in them was written by whoever made the image. Pure.
 */
import { z } from "zod"
import { ImageDigest } from "../../schema/container.ts"
import type { ImageConfig } from "../runtime/ports.ts"

/** The distribution specification asks registries to take manifests of 4 MiB; configs of real images have a few KiB. */
export const MAX_DOCUMENT_BYTES = 4 * 1024 * 1024
/** Overlay and Docker stop at 127 and 128 layers. */
const MAX_LAYERS = 128
/** All text of a config that reaches the process; the kernel's limit for one string is 128 KiB. */
const MAX_CONFIG_TEXT_BYTES = 256 * 1024

export const REF_NAME = "org.opencontainers.image.ref.name"

const Platform = z.object({ architecture: z.string(), os: z.string() })
const Descriptor = z.object({
  mediaType: z.string(),
  digest: ImageDigest,
  size: z.int().min(0),
  platform: Platform.optional(),
  annotations: z.record(z.string(), z.string()).optional(),
})
export type Descriptor = z.infer<typeof Descriptor>

const Index = z.object({ manifests: z.array(Descriptor).max(10_000) })
const Manifest = z.object({ config: Descriptor, layers: z.array(Descriptor).max(MAX_LAYERS) })
export type Manifest = z.infer<typeof Manifest>

const words = z.array(z.string()).nullish()
const Config = z.object({
  architecture: z.string(),
  os: z.string(),
  config: z
    .object({
      Entrypoint: words,
      Cmd: words,
      Env: words,
      WorkingDir: z.string().nullish(),
      User: z.string().nullish(),
      StopSignal: z.string().nullish(),
    })
    .nullish(),
})

/** A document that is not what it claims to be. The message is for the image's maker. */
export class DocumentError extends Error {
  override readonly name = "DocumentError"
}

function read<T>(what: string, schema: z.ZodType<T>, json: string): T {
  let value: unknown
  try {
    value = JSON.parse(json)
  } catch {
    throw new DocumentError(`its ${what} is not JSON`)
  }
  const result = schema.safeParse(value)
  if (result.success) return result.data
  const path = result.error.issues[0]?.path.join(".") ?? ""
  throw new DocumentError(`its ${what} is malformed${path === "" ? "" : ` at ${path}`}`)
}

export const parseIndex = (json: string): readonly Descriptor[] => read("index", Index, json).manifests
export const parseManifest = (json: string): Manifest => read("manifest", Manifest, json)

/** Architectures by their names in images, for the ones that this code runs on. */
export const ARCHITECTURES: Readonly<Record<string, string>> = { x64: "amd64", arm64: "arm64" }

/** The platforms that a raw manifest offers, as `os/architecture`; null when it is a single image, or none that we can read. */
export function platformsOf(json: string): readonly string[] | null {
  let manifests: readonly Descriptor[]
  try {
    manifests = parseIndex(json)
  } catch {
    return null
  }
  return manifests.map(({ platform }) => (platform === undefined ? "unknown" : `${platform.os}/${platform.architecture}`))
}

/** The image with this tag in a layout. Without tags, a layout of one image is its `latest`. */
export function byTag(manifests: readonly Descriptor[], tag: string): Descriptor | undefined {
  const [only] = manifests
  const untagged = manifests.length === 1 && only !== undefined && only.annotations?.[REF_NAME] === undefined
  return untagged && tag === "latest" ? only : manifests.find(({ annotations }) => annotations?.[REF_NAME] === tag)
}

export interface ParsedConfig {
  readonly platform: string
  readonly config: ImageConfig
}

export function parseConfig(json: string): ParsedConfig {
  const { os, architecture, config } = read("config", Config, json)
  const parsed: ImageConfig = {
    entrypoint: config?.Entrypoint ?? [],
    cmd: config?.Cmd ?? [],
    env: config?.Env ?? [],
    workdir: config?.WorkingDir ?? "",
    user: config?.User ?? "",
    stopSignal: config?.StopSignal ?? "",
  }
  const texts = [...parsed.entrypoint, ...parsed.cmd, ...parsed.env, parsed.workdir, parsed.user, parsed.stopSignal]
  if (texts.some((text) => text.includes("\0"))) throw new DocumentError("its config has a NUL character")
  if (texts.reduce((sum, text) => sum + text.length + 1, 0) > MAX_CONFIG_TEXT_BYTES)
    throw new DocumentError("its config is too large")
  return { platform: `${os}/${architecture}`, config: parsed }
}
