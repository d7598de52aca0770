/**
 * Which containers a token is about (RFC 9396 authorization details of the type `container`). One entry is a set of containers:
 * those that meet each of its conditions. What is outside of all entries is not there for the token, and it can make nothing
 * that would be. Pure.
 */
import type { AcceleratorRequest, ContainerSpec } from "../../schema/container.ts"
import type { FieldError } from "../../schema/errors.ts"
import type { ContainerId } from "../../schema/ids.ts"
import type { AuthorizationDetails, ContainerDetail } from "../../schema/tokens.ts"

type Spec = Pick<ContainerSpec, "image" | "labels" | "resources">

/** A container, or one that is to be. */
export interface Target {
  /** Null of one that is to be. */
  readonly id: ContainerId | null
  readonly name: string | null
  /** Null of one that is remembered by its events alone: then only its id and its name can speak for it. */
  readonly spec: Spec | null
  /** What its image's name was resolved to, if it was. */
  readonly digest: string | null
}

/** Whether the token is about this container. Null details: about all. */
export const isAbout = (details: AuthorizationDetails | null, target: Target): boolean =>
  details === null || details.some((detail) => faults(detail, target).length === 0)

/** Why a token may not make this container: what is wrong with it by the entry that comes nearest. Empty: it may. */
export function faultsOf(details: AuthorizationDetails | null, name: string | null, spec: Spec): FieldError[] {
  const target = { id: null, name, spec, digest: null }
  const each = (details ?? []).map((detail) => faults(detail, target))
  return each.toSorted((a, b) => a.length - b.length)[0] ?? []
}

function faults(detail: ContainerDetail, { id, name, spec, digest }: Target): FieldError[] {
  const { containers, name_prefix, labels, images, max_resources = {}, accelerators } = detail
  const found: FieldError[] = []
  const fault = (pointer: string, message: string) => void found.push({ pointer, message })
  if (containers && (id === null || !containers.includes(id)))
    fault("", "your token is about containers that exist, and can create none")
  if (name_prefix !== undefined && !name?.startsWith(name_prefix)) fault("/name", `must begin with ${name_prefix} for your token`)
  if (spec === null) {
    if (labels ?? images ?? accelerators ?? detail.max_resources) fault("", "is not known any more")
    return found
  }
  for (const [key, value] of Object.entries(labels ?? {}))
    if (spec.labels[key] !== value) fault(`/labels/${key.replaceAll("/", "~1")}`, `must be ${value} for your token`)
  if (images && !images.some((image) => selects(image, spec.image, digest)))
    fault("/image", `must be of ${images.join(" or ")} for your token`)
  for (const [what, most] of Object.entries(max_resources) as [keyof typeof max_resources, number][])
    if (spec.resources[what] > most) fault(`/resources/${what}`, `must be at most ${most} for your token`)
  if (accelerators)
    for (const [i, request] of spec.resources.accelerators.entries())
      for (const kind of kindsOf(request).filter((one) => !accelerators.includes(one)))
        fault(`/resources/accelerators/${i}`, `must not be ${kind} for your token`)
  return found
}

const kindsOf = (request: AcceleratorRequest): string[] =>
  "kind" in request ? [request.kind] : request.first_available.map(({ kind }) => kind)

/** `selector` is a repository, a digest or both; `reference` is what the tenant wrote. Names are compared to the letter. */
function selects(selector: string, reference: string, resolved: string | null): boolean {
  const [named = "", pinned] = reference.split("@")
  const repository = named.replace(/:[^/]*$/, "")
  if (selector.startsWith("sha256:")) return selector === (pinned ?? resolved)
  const [wanted, digest] = selector.split("@")
  return wanted === repository && (digest === undefined || digest === (pinned ?? resolved))
}
