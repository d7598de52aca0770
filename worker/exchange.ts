/**
 * Token exchange (RFC 8693): a token of this platform becomes a narrower one, and a token of an issuer that a tenant trusts
 * becomes one of this platform, so that a pipeline holds no secret. What comes out is never worth more than what went in.
 */
import { z } from "zod"
import type { TenantId, TokenId, TrustId } from "../schema/ids.ts"
import { TrustId as TrustIdSchema } from "../schema/ids.ts"
import type { TenantScope } from "../schema/tokens.ts"
import {
  AuthorizationDetails,
  EXCHANGED_TOKEN_SECONDS,
  MAX_CHAIN,
  MAX_TOKEN_SECONDS,
  OPERATOR_SCOPE,
  TENANT_SCOPES,
} from "../schema/tokens.ts"
import type { Proof } from "./dpop.ts"
import { DPOP_HEADER, verifyProof } from "./dpop.ts"
import { failing } from "./claim-conditions.ts"
import type { AppContext, Principal } from "./env.ts"
import { chainFrom, issue, worthOf } from "./issuing.ts"
import type { Asked, Worth } from "./narrowing.ts"
import { narrowed } from "./narrowing.ts"
import { OAuthError } from "./oauth.ts"
import { callerOf } from "./operation.ts"
import type { Act } from "./tokens.ts"

const TYPE = "urn:ietf:params:oauth:token-type:"
export const ACCESS_TOKEN = `${TYPE}access_token`
const FOREIGN = [`${TYPE}id_token`, `${TYPE}jwt`]
export const TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"

const JsonText = z.string().transform((text, context): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    context.addIssue({ code: "custom", message: "must be JSON" })
    return z.NEVER
  }
})

export const ExchangeForm = z
  .object({
    grant_type: z.string().meta({ description: TOKEN_EXCHANGE }),
    subject_token: z.string(),
    subject_token_type: z.string().meta({
      description: `${ACCESS_TOKEN} for a token of this platform, ${FOREIGN[0]} for one of an issuer that you trust.`,
    }),
    client_id: z.string().optional().meta({ description: "The trust by which another issuer's token is taken." }),
    actor_token: z.string().optional().meta({ description: "Who will act for the subject; named in the new token's `act`." }),
    actor_token_type: z.string().optional(),
    scope: z.string().optional().meta({ description: "Default: all that the subject token has." }),
    authorization_details: JsonText.pipe(AuthorizationDetails).optional().meta({
      description: "JSON (RFC 9396). Where the subject token has some, both must be met.",
    }),
    expires_in: z
      .string()
      .regex(/^\d{1,9}$/, "must be seconds")
      .transform(Number)
      .optional()
      .meta({ description: "Seconds; the answer says how many it became. Default: an hour." }),
    requested_token_type: z.string().optional(),
    audience: z.string().optional(),
    resource: z.string().optional(),
  })
  .meta({ id: "TokenExchange" })
type Form = z.output<typeof ExchangeForm>

export const ExchangeAnswer = z
  .object({
    access_token: z.string(),
    issued_token_type: z.literal(ACCESS_TOKEN),
    token_type: z.enum(["Bearer", "DPoP"]),
    expires_in: z.int(),
    scope: z.string(),
    authorization_details: AuthorizationDetails.optional(),
  })
  .meta({ id: "ExchangedToken" })
type Answer = z.infer<typeof ExchangeAnswer>

/** @throws OAuthError, AppError. */
export async function exchange(c: AppContext, form: Form): Promise<Answer> {
  if (form.grant_type !== TOKEN_EXCHANGE)
    throw new OAuthError("unsupported_grant_type", `The only grant type is ${TOKEN_EXCHANGE}.`)
  const { requested_token_type: wanted, audience, resource, subject_token_type: type } = form
  if (wanted !== undefined && wanted !== ACCESS_TOKEN)
    throw new OAuthError("invalid_request", `Tokens of the type ${ACCESS_TOKEN} are all that is given.`)
  for (const target of [audience, resource])
    if (target !== undefined && target !== c.env.ISSUER)
      throw new OAuthError("invalid_target", `Tokens are good for ${c.env.ISSUER} alone.`)
  if ((form.actor_token === undefined) !== (form.actor_token_type === undefined))
    throw new OAuthError("invalid_request", "actor_token and actor_token_type go together.")
  if (type === ACCESS_TOKEN) return exchangeOwn(c, form)
  if (FOREIGN.includes(type)) return exchangeForeign(c, form)
  throw new OAuthError("invalid_request", `subject_token_type must be ${[ACCESS_TOKEN, ...FOREIGN].join(" or ")}.`)
}

/** The proof that came with the call: what is given is bound to its key (RFC 9449, section 5). @throws OAuthError. */
async function proofOf(c: AppContext): Promise<Proof | undefined> {
  const header = c.req.header(DPOP_HEADER)
  if (header === undefined) return undefined
  const call = { method: c.req.raw.method, url: c.req.url, issuer: c.env.ISSUER, token: null }
  const proof = await verifyProof(header, call, c.var.services.clock.now())
  if (!proof.ok) throw new OAuthError("invalid_dpop_proof", `The DPoP proof ${proof.error}.`)
  return proof.value
}

/** Whoever found a token that is bound to a key must not get one that is not. */
function refuseFound({ jkt }: Principal, proof: Proof | undefined): void {
  if (jkt !== null && jkt !== proof?.jkt)
    throw new OAuthError("invalid_dpop_proof", "The token is bound to a key: send a DPoP proof by it.")
}

async function exchangeOwn(c: AppContext, form: Form): Promise<Answer> {
  if (form.client_id !== undefined) throw new OAuthError("invalid_request", "client_id goes with another issuer's token.")
  const subject = await c.var.services.keyring.verify(form.subject_token)
  const proof = await proofOf(c)
  refuseFound(subject, proof)
  const act = await actor(c, form, subject.tenant, subject.act, proof)
  const chain = chainFrom(subject)
  if (subject.tenant === null) return exchangeOperators(c, form, subject, chain, act)
  const worth = narrow(c, worthOf(subject), form)
  const it = {
    tenant: subject.tenant,
    subject: subject.subject,
    name: subject.subject,
    worth,
    chain,
    act,
    jkt: proof?.jkt ?? null,
    proof,
  }
  return give(c, subject, it)
}

/** An operator's token has one scope and no containers: only its time can be narrowed. */
async function exchangeOperators(
  c: AppContext,
  form: Form,
  subject: Principal,
  chain: (TokenId | TrustId)[],
  act: Act | null,
): Promise<Answer> {
  const { clock, directory, ids, keyring } = c.var.services
  if (c.req.header(DPOP_HEADER) !== undefined)
    throw new OAuthError("invalid_request", "Operators' tokens are bound to no keys: leave the DPoP header out.")
  if (await directory.anyRevoked([subject.token, ...subject.chain]))
    throw new OAuthError("invalid_request", "The token was revoked.")
  if (!subject.scopes.has(OPERATOR_SCOPE) || (form.scope !== undefined && form.scope !== OPERATOR_SCOPE))
    throw new OAuthError("invalid_scope", `An operator's token has the scope ${OPERATOR_SCOPE}.`)
  if (form.authorization_details)
    throw new OAuthError("invalid_authorization_details", "An operator's token is not about containers.")
  const nowMs = clock.now()
  const expiresAtMs = Math.min(subject.expiresAtMs, nowMs + lifetime(form) * 1000)
  const scopes = [OPERATOR_SCOPE]
  const claims = { subject: subject.subject, token: ids.make("tok"), chain, scopes, act, issuedAtMs: nowMs, expiresAtMs }
  return answer(await keyring.sign(claims), { scopes, details: null, expiresAtMs, jkt: null }, nowMs)
}

async function exchangeForeign(c: AppContext, form: Form): Promise<Answer> {
  const { clock, directory, issuers } = c.var.services
  const id = TrustIdSchema.safeParse(form.client_id)
  const trust = id.success ? await directory.trust(id.data) : undefined
  if (!trust) throw new OAuthError("invalid_client", "client_id must be the id of a trust, such as tru_….")
  const claims = await issuers.verify(form.subject_token, trust.issuer, trust.audience)
  const wrong = failing(trust.conditions, claims)
  if (wrong !== undefined)
    throw new OAuthError("invalid_request", `The subject token's ${wrong} is not one that the trust takes.`)
  const { sub = "" } = claims
  const subject = `${trust.id}:${sub}`
  if (sub.length > MAX_FOREIGN_SUBJECT) throw new OAuthError("invalid_request", "The subject token's sub is too long.")
  const proof = await proofOf(c)
  const act = await actor(c, form, trust.tenantId, null, proof)
  const expiresAtMs = clock.now() + trust.maxLifetimeSeconds * 1000
  const worth = narrow(c, { scopes: trust.scopes, details: trust.details, expiresAtMs }, form)
  const name = `${trust.name}: ${sub}`.slice(0, MAX_NAME)
  return give(c, null, { tenant: trust.tenantId, subject, name, worth, chain: [trust.id], act, jkt: proof?.jkt ?? null, proof })
}

/** Ours have 512 characters for a subject, of which the trust's id takes its part. */
const MAX_FOREIGN_SUBJECT = 400
const MAX_NAME = 128

/** The new token's `act`: the actor before the ones that were named already (RFC 8693, section 4.1). */
async function actor(
  c: AppContext,
  form: Form,
  tenant: TenantId | null,
  before: Act | null,
  proof: Proof | undefined,
): Promise<Act | null> {
  if (form.actor_token === undefined) return before
  if (form.actor_token_type !== ACCESS_TOKEN) throw new OAuthError("invalid_request", `actor_token_type must be ${ACCESS_TOKEN}.`)
  const principal = await c.var.services.keyring.verify(form.actor_token)
  refuseFound(principal, proof)
  if (principal.tenant !== tenant) throw new OAuthError("invalid_request", "The actor token is of another tenant.")
  if (tenant !== null) await c.var.services.peers.tenant(tenant).admit(callerOf(c, principal))
  else if (await c.var.services.directory.anyRevoked([principal.token, ...principal.chain]))
    throw new OAuthError("invalid_request", "The actor token was revoked.")
  const act = { sub: principal.subject, ...(before && { act: before }) }
  if (depth(act) > MAX_CHAIN) throw new OAuthError("invalid_request", `There are ${MAX_CHAIN} actors at most.`)
  return act
}
const depth = (act: Act): number => 1 + (act.act ? depth(act.act) : 0)

const lifetime = ({ expires_in = EXCHANGED_TOKEN_SECONDS }: Form) => Math.min(Math.max(expires_in, 1), MAX_TOKEN_SECONDS)

function narrow(c: AppContext, own: Worth, form: Form): Worth {
  const scopes = form.scope?.split(" ").filter((word) => word !== "")
  const unknown = scopes?.find((scope) => !(TENANT_SCOPES as readonly string[]).includes(scope))
  if (unknown !== undefined) throw new OAuthError("invalid_scope", `There is no scope ${unknown}.`)
  const asked: Asked = {
    scopes: scopes as readonly TenantScope[] | undefined,
    details: form.authorization_details,
    lifetimeSeconds: lifetime(form),
  }
  const made = narrowed(own, asked, c.var.offered, c.var.services.clock.now())
  if (made.ok) return made.value
  const { field, index, message } = made.error
  if (field === "scopes") throw new OAuthError("invalid_scope", `scope ${scopes?.[index ?? -1] ?? ""} ${message}.`)
  throw new OAuthError("invalid_authorization_details", `authorization_details: ${message}.`)
}

async function give(c: AppContext, subject: Principal | null, it: Omit<Parameters<typeof issue>[2], "id">): Promise<Answer> {
  const { clock, ids, peers } = c.var.services
  const caller = subject && callerOf(c, subject)
  const id = ids.make("tok")
  const { access_token } = await issue(c, caller, { id, ...it })
  // Of another issuer's token the audit log knows what it became.
  const { worth, act = null, ...named } = it
  const became = { ...named, ...worth, token: id, scopes: new Set<string>(worth.scopes), act, jkt: null }
  await peers.tenant(it.tenant).record(caller ?? callerOf(c, became), id, "ok")
  return answer(access_token, { ...it.worth, jkt: it.jkt }, clock.now())
}

type Given = Pick<Worth, "details" | "expiresAtMs"> & { readonly scopes: readonly string[]; readonly jkt: string | null }
const answer = (access_token: string, { scopes, details, expiresAtMs, jkt }: Given, nowMs: number): Answer => ({
  access_token,
  issued_token_type: ACCESS_TOKEN,
  token_type: jkt === null ? "Bearer" : "DPoP",
  expires_in: Math.max(0, Math.round((expiresAtMs - nowMs) / 1000)),
  scope: scopes.join(" "),
  ...(details && { authorization_details: details }),
})
