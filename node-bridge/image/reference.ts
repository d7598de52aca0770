/**
 * What an image reference means: which registry and repository, or an image that the operator put on the node. Pure.
 *
 * Names without a registry are Docker Hub's, as everywhere. `localhost/NAME` without a port is never the network.
 */
import { IMAGE_REFERENCE } from "../../schema/container.ts"

export interface RegistryReference {
  readonly kind: "registry"
  readonly registry: string
  readonly repository: string
  readonly tag: string
  /** Wins over the tag. */
  readonly digest: string | null
  /** Only a registry on this machine's loopback is spoken to without TLS. */
  readonly plainHttp: boolean
}

export interface LocalReference {
  readonly kind: "local"
  /** One or more path components, none of them `.` or `..`: the grammar has no room for those. */
  readonly name: string
  readonly tag: string
  readonly digest: string | null
}

export type Reference = RegistryReference | LocalReference

const DOCKER_HUB = "docker.io"
const LOOPBACK = /^(?:localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[::1\]):\d{1,5}$|^(?:127\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[::1\])$/

/** Null when the text is no image reference. */
export function parseReference(text: string): Reference | null {
  if (!IMAGE_REFERENCE.test(text)) return null
  const [named = "", digest = null] = text.split("@")
  const slash = named.indexOf("/")
  const first = slash === -1 ? "" : named.slice(0, slash)
  // What tells a registry from a path component is a dot, a port, a capital, or the name localhost.
  const hasRegistry = /[.:A-Z[]/.test(first) || first === "localhost"
  const path = hasRegistry ? named.slice(slash + 1) : named
  const colon = path.indexOf(":")
  const name = colon === -1 ? path : path.slice(0, colon)
  const tag = colon === -1 ? "latest" : path.slice(colon + 1)
  if (first === "localhost") return { kind: "local", name, tag, digest }
  const registry = hasRegistry ? first : DOCKER_HUB
  const repository = registry === DOCKER_HUB && !name.includes("/") ? `library/${name}` : name
  return { kind: "registry", registry, repository, tag, digest, plainHttp: LOOPBACK.test(registry) }
}

/** The reference of one digest, for skopeo's `docker://`, which takes a tag or a digest and never both. */
export const atDigest = (reference: RegistryReference, digest: string) =>
  `docker://${reference.registry}/${reference.repository}@${digest}`

export const atTag = (reference: RegistryReference) => `docker://${reference.registry}/${reference.repository}:${reference.tag}`
