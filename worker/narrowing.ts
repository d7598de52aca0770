/**
 * What a token can be worth that is made from another: never more than that one, in scope, in containers and in time. A token is
 * made from another by minting and by exchange; a trust is bounded by the token that made it. Pure.
 */
import type { Result } from "../schema/errors.ts"
import { err, ok } from "../schema/errors.ts"
import type { ContainerDetail, TenantScope } from "../schema/tokens.ts"
import { AuthorizationDetails, MAX_DETAILS, MAX_DETAILS_BYTES, NARROWABLE } from "../schema/tokens.ts"

/** What a token is worth. */
export interface Worth {
  readonly scopes: readonly TenantScope[]
  /** Null: about all of the tenant's containers. */
  readonly details: AuthorizationDetails | null
  readonly expiresAtMs: number
}

export interface Asked {
  /** Undefined: all that it can have. */
  readonly scopes?: readonly TenantScope[]
  readonly details?: AuthorizationDetails
  readonly lifetimeSeconds: number
}

/** `beyond`: more than the token has; else what is asked can be had by no token. */
export interface Refused {
  readonly field: "scopes" | "authorization_details"
  readonly index: number | null
  readonly beyond: boolean
  readonly message: string
}

/** `offered`: scopes that some operation needs. */
export function narrowed(own: Worth, asked: Asked, offered: ReadonlySet<string>, nowMs: number): Result<Worth, Refused> {
  const details = meetAll(own.details, asked.details ?? null)
  if (details?.length === 0)
    return refused("authorization_details", null, true, "none of these containers is among those of the token it comes from")
  if (details !== null && !AuthorizationDetails.safeParse(details).success)
    return refused(
      "authorization_details",
      null,
      false,
      `together with those of the token it comes from, they must be at most ${MAX_DETAILS} entries and ${MAX_DETAILS_BYTES} bytes`,
    )
  const possible = (scope: TenantScope) => offered.has(scope) && (details === null || NARROWABLE.has(scope))
  for (const [index, scope] of (asked.scopes ?? []).entries()) {
    if (!offered.has(scope)) return refused("scopes", index, false, "is not offered yet: nothing needs it")
    if (!own.scopes.includes(scope)) return refused("scopes", index, true, "is not among those of the token it comes from")
    if (!possible(scope))
      return refused("scopes", index, false, "is about more than containers: no authorization_details go with it")
  }
  const scopes = asked.scopes ?? own.scopes.filter(possible)
  if (scopes.length === 0) return refused("scopes", null, true, "nothing is left")
  return ok({ scopes, details, expiresAtMs: Math.min(own.expiresAtMs, nowMs + asked.lifetimeSeconds * 1000) })
}

const refused = (field: Refused["field"], index: number | null, beyond: boolean, message: string) =>
  err({ field, index, beyond, message })

/** Containers of both. Null stands for all of them. */
function meetAll(a: AuthorizationDetails | null, b: AuthorizationDetails | null): AuthorizationDetails | null {
  if (a === null || b === null) return a ?? b
  const met = a.flatMap((one) => b.map((other) => meet(one, other)).filter((detail) => detail !== undefined))
  return [...new Map(met.map((detail) => [JSON.stringify(detail), detail])).values()]
}

/** The containers of both entries; undefined when no container can be in both. */
export function meet(a: ContainerDetail, b: ContainerDetail): ContainerDetail | undefined {
  const containers = both(a.containers, b.containers, (x, y) => x.filter((id) => y.includes(id)))
  const name_prefix = both(a.name_prefix, b.name_prefix, (x, y) => (x.startsWith(y) ? x : y.startsWith(x) ? y : null))
  const labels = both(a.labels, b.labels, (x, y) => (contradict(x, y) ? null : { ...x, ...y }))
  const images = both(a.images, b.images, meetImages)
  const max_resources = both(a.max_resources, b.max_resources, least)
  const accelerators = both(a.accelerators, b.accelerators, (x, y) => x.filter((kind) => y.includes(kind)))
  if (name_prefix === null || labels === null || containers?.length === 0 || images?.length === 0) return undefined
  return {
    type: "container",
    ...(containers && { containers }),
    ...(name_prefix !== undefined && { name_prefix }),
    ...(labels && { labels }),
    ...(images && { images }),
    ...(max_resources && { max_resources }),
    ...(accelerators && { accelerators }),
  }
}

/** A condition that one entry lacks is the other's. */
const both = <T, M>(a: T | undefined, b: T | undefined, meeting: (a: T, b: T) => M): T | M | undefined =>
  a === undefined ? b : b === undefined ? a : meeting(a, b)

const contradict = (a: Readonly<Record<string, string>>, b: Readonly<Record<string, string>>) =>
  Object.entries(a).some(([key, value]) => Object.hasOwn(b, key) && b[key] !== value)

type Most = NonNullable<ContainerDetail["max_resources"]>
function least(a: Most, b: Most): Most {
  const names = [...new Set([...Object.keys(a), ...Object.keys(b)])] as (keyof Most)[]
  return Object.fromEntries(names.map((name) => [name, Math.min(a[name] ?? Infinity, b[name] ?? Infinity)]))
}

/** A repository and a digest have one image in common. */
function meetImages(a: readonly string[], b: readonly string[]): string[] {
  const met = a.flatMap((one) => b.map((other) => meetImage(parts(one), parts(other))).filter((image) => image !== undefined))
  return [...new Set(met)]
}

interface ImageParts {
  readonly repository: string | undefined
  readonly digest: string | undefined
}
function parts(selector: string): ImageParts {
  if (selector.startsWith("sha256:")) return { repository: undefined, digest: selector }
  const [repository, digest] = selector.split("@")
  return { repository, digest }
}
const differ = (x: string | undefined, y: string | undefined) => x !== undefined && y !== undefined && x !== y
function meetImage(a: ImageParts, b: ImageParts): string | undefined {
  if (differ(a.repository, b.repository) || differ(a.digest, b.digest)) return undefined
  return [a.repository ?? b.repository, a.digest ?? b.digest].filter((part) => part !== undefined).join("@")
}
