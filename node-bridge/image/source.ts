/**
 * Where images come from: a registry, spoken to by skopeo, or layouts that the operator put on the node. Resolves names to
 * digests, and copies one image by digest into a fresh OCI layout, verified on the way.
 *
 * skopeo runs with the working folder as its own, so that its messages and arguments carry no host path, and without the
 * operator's credentials unless told: a tenant must not borrow what root once logged in to.
 */
import { createHash } from "node:crypto"
import { readFileSync, statSync } from "node:fs"
import { mkdir, symlink, writeFile } from "node:fs/promises"
import { join } from "node:path"
import type { ExecResult } from "../runtime/exec.ts"
import { ExecError, exec } from "../runtime/exec.ts"
import { ControllerError } from "../runtime/controller.ts"
import type { RegistryCredentials } from "../runtime/ports.ts"
import { authFile } from "./credentials.ts"
import { corrupt, faultOf, notFound, wrongArchitecture } from "./faults.ts"
import { ARCHITECTURES, DocumentError, MAX_DOCUMENT_BYTES, REF_NAME, byTag, parseIndex, platformsOf } from "./manifest.ts"
import type { Descriptor } from "./manifest.ts"
import type { LocalReference, Reference, RegistryReference } from "./reference.ts"
import { atDigest, atTag } from "./reference.ts"

/** The tag of the one image in a layout that we make. */
export const LAYOUT_TAG = "image"
/** Our own limit comes after the tool's, which can say what it waited for. */
const TOOL_GRACE_MS = 5_000

export interface SourceOptions {
  /** Layouts that the operator put on the node, one folder per name; null when there are none. */
  readonly imagesDir: string | null
  /** Credentials for registries, in the format of `skopeo login`; null for none. */
  readonly authFile: string | null
  /** For the answer to "which digest has this tag". */
  readonly resolveTimeoutMs: number
  /** For a whole pull. */
  readonly pullTimeoutMs: number
}

export const nodePlatform = () => `linux/${ARCHITECTURES[process.arch] ?? process.arch}`

/** Which image's repository, and with what it is asked; credentials are for registries alone. */
export interface From {
  readonly reference: Reference
  readonly credentials: RegistryCredentials | null
}

const digestOf = (manifest: string) => `sha256:${createHash("sha256").update(manifest).digest("hex")}`

/** An index as it was read from a file that was in this state: another state may be another index. */
interface KnownIndex {
  readonly state: string
  readonly manifests: readonly Descriptor[]
}

export class ImageSource {
  readonly #options: SourceOptions
  /** By path. There are no more of them than layouts that the operator made. */
  readonly #indexes = new Map<string, KnownIndex>()

  constructor(options: SourceOptions) {
    this.#options = options
  }

  /** The digest that the reference's tag has now. `scratch` is an existing folder for temporary files. */
  async resolve({ reference, credentials }: From, scratch: string, signal: AbortSignal): Promise<string> {
    if (reference.kind === "local") {
      const found = byTag(this.#localIndex(reference), reference.tag)
      if (found === undefined) throw notFound()
      return found.digest
    }
    const manifest = await this.#manifest(reference, atTag(reference), credentials, scratch, signal)
    const platforms = platformsOf(manifest)
    if (platforms !== null && !platforms.includes(nodePlatform()))
      throw wrongArchitecture([...new Set(platforms)].join(", ").slice(0, 200), nodePlatform())
    return digestOf(manifest)
  }

  /** Throws unless the reference's repository has an image of this digest, for these credentials. */
  async confirm({ reference, credentials }: From, digest: string, scratch: string, signal: AbortSignal): Promise<void> {
    if (reference.kind === "local") {
      this.#localImage(reference, digest)
      return
    }
    const manifest = await this.#manifest(reference, atDigest(reference, digest), credentials, scratch, signal)
    if (digestOf(manifest) !== digest) throw corrupt("its manifest is not what its digest says")
  }

  /** Copies the image with this digest to `DIR/layout`, all layers as gzip. */
  async copy({ reference, credentials }: From, digest: string, dir: string, signal: AbortSignal): Promise<void> {
    const how = { timeoutMs: this.#options.pullTimeoutMs, signal, cwd: dir }
    const copy = ["copy", "--quiet", "--dest-compress", "--dest-compress-format", "gzip"]
    const to = `oci:layout:${LAYOUT_TAG}`
    if (reference.kind === "local") await skopeo([...copy, await this.#localSource(reference, digest, dir), to], how)
    else
      await this.#askRegistry(reference, credentials, "src-", (args) => [...copy, ...args, atDigest(reference, digest), to], how)
  }

  async #manifest(
    reference: RegistryReference,
    name: string,
    credentials: RegistryCredentials | null,
    cwd: string,
    signal: AbortSignal,
  ): Promise<string> {
    const how = { timeoutMs: this.#options.resolveTimeoutMs, signal, cwd }
    const command = (args: readonly string[]) => ["inspect", "--raw", ...args, name]
    return (await this.#askRegistry(reference, credentials, "", command, how)).stdout
  }

  /** A tenant's credentials are all that skopeo gets then: none of the operator's beside them. */
  async #askRegistry(
    reference: RegistryReference,
    credentials: RegistryCredentials | null,
    prefix: "" | "src-",
    command: (registryArgs: readonly string[]) => readonly string[],
    how: ToolOptions,
  ): Promise<ExecResult> {
    const held = credentials && authFile(reference.registry, credentials)
    try {
      const path = held?.path ?? this.#options.authFile
      const who = path === null ? [`--${prefix}no-creds`] : [`--${prefix}authfile`, path]
      const args = reference.plainHttp ? [...who, `--${prefix}tls-verify=false`] : who
      return await skopeo(command(args), { ...how, credentials })
    } finally {
      held?.release()
    }
  }

  /** A layout is looked at for every start from it, and by one call, not by the thread pool: that takes longer than the look. */
  #localIndex(reference: LocalReference): readonly Descriptor[] {
    const { imagesDir } = this.#options
    if (imagesDir === null) throw notFound()
    const path = join(imagesDir, reference.name, "index.json")
    try {
      const { ino, size, mtimeNs, ctimeNs } = statSync(path, { bigint: true })
      const state = [ino, size, mtimeNs, ctimeNs].join(" ")
      const known = this.#indexes.get(path)
      if (known?.state === state) return known.manifests
      const manifests = parseIndex(readFileSync(path, "utf8"))
      this.#indexes.set(path, { state, manifests })
      return manifests
    } catch (error) {
      this.#indexes.delete(path)
      if (error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENOTDIR")) throw notFound()
      throw error instanceof DocumentError ? corrupt(error.message) : error
    }
  }

  #localImage(reference: LocalReference, digest: string): Descriptor {
    const found = this.#localIndex(reference).find((descriptor) => descriptor.digest === digest)
    if (found === undefined) throw notFound()
    return found
  }

  /** A layout of one image beside the operator's, with its blobs linked: skopeo can name an image by tag only. */
  async #localSource(reference: LocalReference, digest: string, dir: string): Promise<string> {
    const found = this.#localImage(reference, digest)
    if (this.#options.imagesDir === null) throw notFound()
    const source = join(dir, "source")
    await mkdir(source)
    await writeFile(join(source, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }))
    const manifests = [{ ...found, annotations: { [REF_NAME]: LAYOUT_TAG } }]
    await writeFile(join(source, "index.json"), JSON.stringify({ schemaVersion: 2, manifests }))
    await symlink(join(this.#options.imagesDir, reference.name, "blobs"), join(source, "blobs"))
    return `oci:source:${LAYOUT_TAG}`
  }
}

interface ToolOptions {
  readonly timeoutMs: number
  readonly signal: AbortSignal
  readonly cwd: string
  /** What the tool was given to show, and must not be kept of what it says. */
  readonly credentials?: RegistryCredentials | null
}

function skopeo(args: readonly string[], options: ToolOptions): Promise<ExecResult> {
  const limits = [
    "--command-timeout",
    `${Math.ceil(options.timeoutMs / 1000)}s`,
    "--tmpdir",
    options.cwd,
    "--override-os",
    "linux",
  ]
  return tool("skopeo", [...limits, ...args], { ...options, timeoutMs: options.timeoutMs + TOOL_GRACE_MS })
}

/** A pull takes minutes: when this process dies it must not go on beside the one that the next bridge begins. */
const TIED = ["--pdeathsig", "KILL", "--"]
/** setpriv(1) when it cannot execute the program. */
const NOT_EXECUTED = [126, 127]

/** Runs a tool in `cwd`, no longer than this process lives; throws what its failure means. */
export async function tool(name: string, args: readonly string[], options: ToolOptions): Promise<ExecResult> {
  const { credentials = null } = options
  try {
    const result = await exec("setpriv", [...TIED, name, ...args], { ...options, maxOutputBytes: MAX_DOCUMENT_BYTES + 1 })
    if (result.code !== null && NOT_EXECUTED.includes(result.code)) throw missing(name, result.stderr)
    if (result.code !== 0) throw faultOf(name, result.stderr, credentials)
    return result
  } catch (error) {
    if (!(error instanceof ExecError)) throw error
    if (error.kind === "timeout") throw faultOf(name, "context deadline exceeded")
    throw missing(name, error)
  }
}

const missing = (name: string, cause: unknown) =>
  new ControllerError("tool_missing", `The node has no working ${name}.`, { cause })
