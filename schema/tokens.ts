/**
 * What a token may do, and with which containers. Scopes are verbs over kinds of things; authorization details (RFC 9396) of the
 * type `container` narrow them to some containers. Both can only be narrowed further: a token is never worth more than the one
 * it was made from.
 */
import { z } from "zod"
import { ContainerName, DeviceKind, ImageSelector, Labels, named } from "./container.ts"
import { ContainerId, TokenId, TrustId } from "./ids.ts"

/** A tenant's verbs. Which of them a token can be given follows from the operations that there are: worker/app.ts. */
export const TENANT_SCOPES = [
  "containers:read", "containers:create", "containers:control", "containers:delete", "containers:exec", "logs:read",
  "events:read", "webhooks:write", "tokens:mint", "usage:read", "images:read", "images:write", "advisor:read",
  "advisor:write", "tenant:admin",
] as const // prettier-ignore
export type TenantScope = (typeof TENANT_SCOPES)[number]
export const OPERATOR_SCOPE = "operator:admin"
export type Scope = TenantScope | typeof OPERATOR_SCOPE

/** Scopes that mean something for a part of the containers; the others are about all of a tenant. */
export const NARROWABLE: ReadonlySet<string> = new Set<TenantScope>([
  "containers:read", "containers:create", "containers:control", "containers:delete", "containers:exec", "logs:read",
  "events:read", "tokens:mint",
]) // prettier-ignore

export const MAX_TOKEN_SECONDS = 90 * 86_400
export const DEFAULT_TOKEN_SECONDS = 86_400
/** Of a token that came by exchange and asked for no time: long enough for one job of a pipeline. */
export const EXCHANGED_TOKEN_SECONDS = 3600
/** A token carries its details with every call, and headers above 16 KiB are refused in many places. */
export const MAX_DETAILS_BYTES = 3072
/** What a token was made from, counted back: more than a pipeline's steps hand on to each other. */
export const MAX_CHAIN = 8
/** Entries; each is looked at in turn for every container. */
export const MAX_DETAILS = 16

export const ContainerDetail = z
  .strictObject({
    type: z.literal("container"),
    containers: z.array(ContainerId).min(1).max(64).optional().meta({ description: "These, by id; nothing can be created." }),
    name_prefix: z
      .string()
      .regex(/^[a-z0-9][a-z0-9-]{0,62}$/, "must be the beginning of a container's name")
      .optional()
      .meta({ description: "Those whose name begins so." }),
    labels: named(Labels.refine((labels) => Object.keys(labels).length > 0, "must name a label"))
      .optional()
      .meta({
        description: "Those that have all of these labels.",
      }),
    images: z
      .array(ImageSelector)
      .min(1)
      .max(32)
      .optional()
      .meta({ description: "Those of one of these repositories or digests. What is created by its tag has no digest yet." }),
    max_resources: z
      .strictObject({
        cpus: z.number().min(0.01),
        memory_bytes: z.int().min(1),
        pids: z.int().min(1),
        disk_bytes: z.int().min(1),
      })
      .partial()
      .refine((most) => Object.keys(most).length > 0, "must name a resource")
      .optional()
      .meta({ description: "Those that ask for no more than this, each." }),
    accelerators: z.array(DeviceKind).max(16).optional().meta({
      description: "Those that ask for accelerators of these kinds alone; an empty list: for none.",
    }),
  })
  .meta({
    id: "ContainerDetail",
    description: "Containers that meet every condition given. The token sees no others, and can create no others.",
  })
export type ContainerDetail = z.infer<typeof ContainerDetail>

/** As UTF-8, at most. */
const bytesOf = (value: unknown) => JSON.stringify(value).replaceAll(/[^\0-\x7f]/g, "---").length

export const AuthorizationDetails = z
  .array(ContainerDetail)
  .min(1)
  .max(MAX_DETAILS)
  .refine((details) => bytesOf(details) <= MAX_DETAILS_BYTES, `must be at most ${MAX_DETAILS_BYTES} bytes of JSON`)
  .meta({
    id: "AuthorizationDetails",
    description: "RFC 9396. A container counts when it meets one of these. Without any, all of the tenant's containers count.",
  })
export type AuthorizationDetails = z.infer<typeof AuthorizationDetails>

const Time = z.iso.datetime().meta({ description: "RFC 3339, UTC." })
const TokenName = z
  .string()
  .min(1)
  .max(128)
  .regex(/^[\x20-\x7e]+$/, "must be printable ASCII")
/** RFC 9449, section 6.1: the thumbprint (RFC 7638) of the key that a token is bound to. */
export const Thumbprint = z.base64url().length(43)
const Scopes = z
  .array(z.enum(TENANT_SCOPES))
  .min(1)
  .transform((scopes) => [...new Set(scopes)])

export const TokenCreate = z
  .strictObject({
    name: TokenName.meta({ description: "Who or what will hold it; it becomes the token's subject.", examples: ["deploy-web"] }),
    scopes: Scopes.meta({ description: "Some of your own." }),
    authorization_details: AuthorizationDetails.optional().meta({
      description: "The containers that it is about. Where your own token has some, both must be met.",
    }),
    expires_in_seconds: z.int().min(60).max(MAX_TOKEN_SECONDS).optional().meta({
      description: "At most until your own token expires. Default: a day, or until then.",
    }),
    dpop_jkt: Thumbprint.optional().meta({
      description:
        "Binds the token to this key (RFC 9449): each call must prove that its caller has it. Default: as your own is.",
    }),
  })
  .meta({ id: "TokenCreate" })
export type TokenCreate = z.infer<typeof TokenCreate>

/** As an operator mints one: a tenant's first token comes from no other. */
export const TenantTokenCreate = z
  .strictObject({
    subject: TokenName.default("automation"),
    scopes: Scopes.optional().meta({ description: "Default: all that there are." }),
    expires_in_seconds: z.int().min(60).max(MAX_TOKEN_SECONDS).default(DEFAULT_TOKEN_SECONDS),
  })
  .meta({ id: "TenantTokenCreate" })

export const Token = z
  .object({
    id: TokenId,
    name: z.string(),
    status: z.enum(["active", "revoked", "expired"]).meta({ description: "Revoked also when one that it comes from is." }),
    scopes: z.array(z.enum(TENANT_SCOPES)),
    authorization_details: z.array(ContainerDetail).nullable(),
    parent: z.union([TokenId, TrustId]).nullable().meta({ description: "The token, or the trust, that it was made from." }),
    created_at: Time,
    expires_at: Time,
    last_used_at: Time.nullable().meta({ description: "To the hour." }),
    revoked_at: Time.nullable(),
  })
  .meta({ id: "Token" })
export type Token = z.infer<typeof Token>

export const MintedToken = z
  .object({
    id: TokenId,
    access_token: z.string().meta({ description: "Shown only here, and kept nowhere." }),
    token_type: z.enum(["Bearer", "DPoP"]),
    expires_at: Time,
    scope: z.string().meta({ description: "What it may do, separated by spaces." }),
    authorization_details: z.array(ContainerDetail).nullable(),
  })
  .meta({ id: "MintedToken" })
export type MintedToken = z.infer<typeof MintedToken>

/* Trusts: tokens of other issuers that are taken in exchange. */

const ClaimText = z.string().min(1).max(512)
export const ClaimCondition = z
  .union([
    z.strictObject({ claim: ClaimText, equals: z.array(ClaimText).min(1).max(32) }),
    z.strictObject({ claim: ClaimText, starts_with: ClaimText }),
  ])
  .meta({
    id: "ClaimCondition",
    description: "What a claim of the issuer's token must be; of a claim with several values, one of them.",
    examples: [{ claim: "repository", equals: ["acme/app"] }],
  })
export type ClaimCondition = z.infer<typeof ClaimCondition>

export const TrustCreate = z
  .strictObject({
    name: ContainerName.meta({ description: "Yours to know it by." }),
    issuer: z
      .url()
      .max(512)
      .refine((text) => !/[?#]/.test(text), "must have no query and no fragment")
      .meta({ description: "Its `iss`, to the letter; its keys are found by OpenID Connect discovery." }),
    audience: z.string().min(1).max(512).optional().meta({ description: "Its `aud`. Default: this platform's issuer." }),
    conditions: z.array(ClaimCondition).min(1).max(16).meta({
      description: "All must hold. An issuer signs for everybody whom it knows: name who is meant.",
    }),
    scopes: Scopes.meta({ description: "What its tokens become worth; some of your own." }),
    authorization_details: AuthorizationDetails.optional(),
    max_lifetime_seconds: z.int().min(60).max(86_400).default(EXCHANGED_TOKEN_SECONDS).meta({
      description: "The longest that a token got in exchange can live.",
    }),
  })
  .meta({ id: "TrustCreate" })
export type TrustCreate = z.infer<typeof TrustCreate>

export const Trust = z
  .object({
    id: TrustId.meta({ description: "The `client_id` of the exchange." }),
    name: z.string(),
    issuer: z.string(),
    audience: z.string(),
    conditions: z.array(ClaimCondition),
    scopes: z.array(z.enum(TENANT_SCOPES)),
    authorization_details: z.array(ContainerDetail).nullable(),
    max_lifetime_seconds: z.int(),
    created_at: Time,
  })
  .meta({ id: "Trust" })
export type Trust = z.infer<typeof Trust>
