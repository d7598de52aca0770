/**
 * What went wrong with an image, from what skopeo and umoci say: an ordered table, first match wins. The tools' own words
 * carry host paths and are never shown; they stay in the error's cause.
 */
import { ControllerError } from "../runtime/controller.ts"
import type { RegistryCredentials } from "../runtime/ports.ts"
import { withoutSecrets } from "./credentials.ts"

interface Rule {
  readonly when: RegExp
  readonly code: string
  readonly sentence: string
  readonly retryable: boolean
}

const RULES: readonly Rule[] = [
  // The disk comes first: its end shows up inside messages about blobs and manifests.
  {
    when: /no space left on device|disk quota exceeded/i,
    code: "disk_full",
    sentence: "The node has no disk space left for the image.",
    retryable: true,
  },
  // The whole deadline has passed: another would only keep the tenant from reading why.
  {
    when: /context deadline exceeded/i,
    code: "registry_timeout",
    sentence: "The registry did not answer in time.",
    retryable: false,
  },
  {
    when: /i\/o timeout|Client\.Timeout|TLS handshake timeout/i,
    code: "registry_timeout",
    sentence: "The registry did not answer in time.",
    retryable: true,
  },
  {
    when: /no image found in (manifest list|image index) for architecture/i,
    code: "image_wrong_architecture",
    sentence: "The image is not offered for the node's architecture.",
    retryable: false,
  },
  {
    when: /unauthorized|authentication required|: denied: |access to the resource is denied|status code 40[13]|403 \(?Forbidden/i,
    code: "image_unauthorized",
    sentence: "The registry does not give this image without credentials, or it does not exist.",
    retryable: false,
  },
  {
    when: /manifest unknown|name unknown|repository name not known|manifest .*not found|status code 404|404 \(?Not Found/i,
    code: "image_not_found",
    sentence: "The registry has no such image.",
    retryable: false,
  },
  // A registry that serves other bytes than it names: a second try may meet a healthier mirror, but not in a moment.
  {
    when: /digest did not match|does not match.*digest|unexpected EOF|correct mediatype|invalid checksum|gzip: invalid|archive\/tar|flate:/i,
    code: "image_corrupt",
    sentence: "The image's data is damaged: it is not what its digest says.",
    retryable: false,
  },
  {
    when: /dial tcp|connection re(fused|set)|no such host|no route to host|network is unreachable|HTTP response to HTTPS|x509|tls:|toomanyrequests|\b429\b|status(?: code)?:? 5\d\d|: EOF/i,
    code: "registry_unreachable",
    sentence: "The registry cannot be reached, or failed to answer properly.",
    retryable: true,
  },
]

const OTHER = { code: "image_failed", sentence: "The image could not be made ready.", retryable: true } as const

const NOT_FOR_THESE = "The registry does not give this image to these credentials, or it does not exist."

/** The error of a tool that failed. `output` is what it wrote to standard error, `credentials` what it was given to show. */
export function faultOf(tool: string, output: string, credentials: RegistryCredentials | null = null): ControllerError {
  const rule = RULES.find(({ when }) => when.test(output)) ?? OTHER
  const told = credentials === null ? output : withoutSecrets(output, credentials)
  const cause = new Error(`${tool}: ${told.trim().slice(-2000)}`)
  const sentence = rule.code === "image_unauthorized" && credentials !== null ? NOT_FOR_THESE : rule.sentence
  return new ControllerError(rule.code, sentence, { retryable: rule.retryable, cause })
}

/** The error for something that Node's own file calls reported, such as ENOSPC. */
export function faultOfFiles(error: unknown): unknown {
  if (!(error instanceof Error) || !("code" in error)) return error
  return error.code === "ENOSPC" || error.code === "EDQUOT" ? faultOf("store", "no space left on device") : error
}

export const refused = (why: string) => new ControllerError("image_refused", `The image is not safe to unpack: ${why}.`)
export const corrupt = (why: string) => new ControllerError("image_corrupt", `The image's data is damaged: ${why}.`)
export const tooLarge = (why: string) => new ControllerError("image_too_large", `The image is too large: ${why}.`)
export const notFound = () => new ControllerError("image_not_found", "There is no such image.")
export const wrongArchitecture = (image: string, node: string) =>
  new ControllerError("image_wrong_architecture", `The image is for ${image}, and the node is ${node}.`)
