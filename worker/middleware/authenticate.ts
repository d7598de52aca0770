/** Who calls, and whether its token allows this operation. Runs before anything of the request but its headers is read. */
import { createMiddleware } from "hono/factory"
import type { Scope } from "../../schema/api.ts"
import { OPERATOR_SCOPE } from "../../schema/api.ts"
import { AppError } from "../../schema/errors.ts"
import { NARROWABLE } from "../../schema/tokens.ts"
import { denied } from "../audit.ts"
import type { Proof } from "../dpop.ts"
import { DPOP_ALGORITHMS, DPOP_HEADER, verifyProof } from "../dpop.ts"
import type { AppContext, AppEnv, Principal } from "../env.ts"
import { MissingToken, Refusal } from "../errors.ts"

/** @throws MissingToken when there is none. */
export function bearerToken(c: AppContext): string {
  const token = /^Bearer +([A-Za-z0-9\-._~+/]+=*)$/i.exec(c.req.header("authorization") ?? "")?.[1]
  if (token === undefined) throw new MissingToken()
  return token
}

export const authenticate = (scope: Scope) =>
  createMiddleware<AppEnv>(async (c, next) => {
    const { scheme, token } = accessToken(c)
    const principal = await c.var.services.keyring.verify(token)
    c.set("principal", principal)
    if (principal.jkt !== null || scheme === "dpop") c.set("proof", await proofOf(c, scheme, token, principal))
    try {
      authorize(principal, scope)
      if (scope === OPERATOR_SCOPE) await refuseRevoked(c, principal)
    } catch (error) {
      await denied(c, error)
      throw error
    }
    await next()
  })

function accessToken(c: AppContext): { scheme: "bearer" | "dpop"; token: string } {
  const dpop = /^DPoP +([A-Za-z0-9\-._~+/]+=*)$/i.exec(c.req.header("authorization") ?? "")?.[1]
  return dpop === undefined ? { scheme: "bearer", token: bearerToken(c) } : { scheme: "dpop", token: dpop }
}

const refusal = (error: string, detail: string) =>
  new Refusal("unauthenticated", detail, {
    "www-authenticate": `DPoP realm="berth", error="${error}", error_description="${detail}", algs="${DPOP_ALGORITHMS.join(" ")}"`,
  })

/** Of a token that is bound to a key (RFC 9449, section 7.1): it cannot be used as if it were not, nor the other way round. */
async function proofOf(c: AppContext, scheme: string, token: string, { jkt }: Principal): Promise<Proof> {
  if (jkt === null) throw refusal("invalid_token", "The token is bound to no key: send it as a bearer token.")
  const header = c.req.header(DPOP_HEADER)
  if (scheme !== "dpop" || header === undefined)
    throw refusal("invalid_token", "The token is bound to a key: send it as DPoP, with a proof.")
  const call = { method: c.req.raw.method, url: c.req.url, issuer: c.env.ISSUER, token }
  const proof = await verifyProof(header, call, c.var.services.clock.now())
  if (!proof.ok) throw refusal("invalid_dpop_proof", `The DPoP proof ${proof.error}.`)
  if (proof.value.jkt !== jkt) throw refusal("invalid_dpop_proof", "The DPoP proof is by another key than the token's.")
  return proof.value
}

/** Of a tenant's token its TenantObject knows; operators call seldom enough to ask the directory every time. */
async function refuseRevoked(c: AppContext, { token, chain }: Principal): Promise<void> {
  if (await c.var.services.directory.anyRevoked([token, ...chain]))
    throw new AppError("unauthenticated", "The token was revoked, or one that it was made from.")
}

/** Operators' calls need a token of no tenant, tenants' calls one of a tenant: neither can stand in for the other. */
function authorize(principal: Principal, scope: Scope): void {
  if (!principal.scopes.has(scope))
    throw new Refusal("forbidden", `This call needs the scope ${scope}.`, {
      "www-authenticate": `Bearer realm="berth", error="insufficient_scope", scope="${scope}"`,
    })
  if (principal.details !== null && !NARROWABLE.has(scope))
    throw new AppError("forbidden", "This is about more than containers, and the token is for some containers alone.")
  if (scope === OPERATOR_SCOPE && principal.tenant !== null) throw new AppError("forbidden", "A tenant's token cannot do this.")
  if (scope !== OPERATOR_SCOPE && principal.tenant === null)
    throw new AppError("forbidden", "This call needs a tenant's token; mint one with POST /v1/admin/tenants/{id}/tokens.")
}
