/**
 * One HTTP operation as data: its address, who may call it, what it takes and answers, and the function that does it. From this
 * one value come the route, the validation and the OpenAPI description, so that they cannot part.
 */
import type { z } from "zod"
import type { Ids } from "../durable/shared/ports.ts"
import type { Scope } from "../schema/api.ts"
import { OPERATOR_SCOPE } from "../schema/api.ts"
import type { ErrorCode } from "../schema/errors.ts"
import type { TenantId } from "../schema/ids.ts"
import { audited } from "./audit.ts"
import { callerOf } from "./caller.ts"
import type { AppContext } from "./env.ts"
import { readBody } from "./middleware/body.ts"
import type { Idempotency, StoredAnswer } from "./middleware/idempotency.ts"
import { once, readIdempotency } from "./middleware/idempotency.ts"
import type { Hold } from "./middleware/prefer.ts"
import { holdOf, PREFER_HEADER } from "./middleware/prefer.ts"
import { validate } from "./validation.ts"

/** RFC 7396: what is left out stays, null takes away. */
export const MERGE_PATCH_MEDIA = "application/merge-patch+json"

export const TAGS = {
  Containers: "What tenants ask to have running.",
  Events: "What happened to a tenant's containers, in order and with cursors.",
  Images: "What tenants log in to registries with.",
  Webhooks: "Endpoints that are told of events, and what became of each delivery.",
  Usage: "What a tenant may have, and has.",
  Audit: "Who changed what, and who was denied; chained and signed.",
  Tokens: "What a machine is given to call with: narrow, expiring, revocable.",
  Operators: "Tenants, their tokens, and the nodes; for tokens with the scope operator:admin.",
  Nodes: "What a node-bridge calls to join and to stay connected.",
  Platform: "Health, keys and this description; no token needed.",
} as const

export { callerOf, callOf } from "./caller.ts"

/** A scope of the token; or how the caller proves itself instead; or nothing at all. */
export type Access = Scope | "join-token" | "node-assertion" | "public"
export const isScope = (access: Access): access is Scope => access.includes(":")
const isTenants = (access: Access) => isScope(access) && access !== OPERATOR_SCOPE

type Schema = z.ZodType
type In<S> = S extends Schema ? z.output<S> : undefined

export interface Input<P, Q, B> {
  readonly params: In<P>
  readonly query: In<Q>
  readonly body: In<B>
  readonly idempotency: Idempotency
  /** Not at all when the operation has no `mayHold`. */
  readonly hold: Hold
  /** Makes ids; when an idempotent call whose answer the directory keeps is done again after a crash, the same ones. */
  readonly ids: Ids
}

/** What a handler answers; it is sent as JSON. A handler that streams gives a Response instead. */
export interface Reply<A> extends StoredAnswer {
  readonly status: 200 | 201 | 204
  readonly body: A
}

export interface Operation<P = unknown, Q = unknown, B = unknown, A = unknown> {
  readonly id: string
  readonly method: "get" | "post" | "patch" | "delete"
  readonly path: string
  readonly tag: keyof typeof TAGS
  readonly access: Access
  readonly summary: string
  readonly description: string
  readonly params?: P
  readonly query?: Q
  readonly body?: B
  /** An absent body stands for `{}`. */
  readonly bodyOptional?: boolean
  /** Media types that the body may have beside application/json. */
  readonly bodyMedia?: readonly string[]
  /** The caller may ask with `Prefer: wait=N` that the answer wait for the container to settle. */
  readonly mayHold?: boolean
  /** `oauth`: it takes a form and answers and refuses as OAuth's RFCs say (oauth.ts). */
  readonly protocol?: "oauth"
  /** Who remembers its `Idempotency-Key`s. Default: the TenantObject those of containers, the directory those of operators. */
  readonly idempotency?: "directory"
  /**
   * `by-its-call`: what it asks the TenantObject carries the caller, who is admitted there. Default: the TenantObject is asked
   * beforehand whether the token was revoked, so that no operation can forget it.
   */
  readonly admission?: "by-its-call"
  readonly answer: {
    readonly status: 101 | 200 | 201 | 204
    readonly description: string
    readonly schema?: A
    readonly example?: A extends Schema ? z.input<A> : undefined
    /** Media types beside or instead of JSON, with an example of each. */
    readonly media?: Readonly<Record<string, string>>
    readonly headers?: Readonly<Record<string, string>>
    /** What it answers instead where its query asks for something else; the handler gives it as a Response. */
    readonly other?: { readonly status: 200; readonly description: string; readonly schema: Schema; readonly example: unknown }
  }
  /** Codes beside those that follow from method, access, body and query (openapi.ts). */
  readonly errors: readonly ErrorCode[]
  readonly example: {
    readonly params?: Readonly<Record<string, string>>
    readonly query?: string
    readonly body?: B extends Schema ? z.input<B> : undefined
  }
  handle(c: AppContext, input: Input<P, Q, B>): Promise<Reply<A extends Schema ? z.output<A> : null> | Response>
}

/** Gives an operation's schemas to its handler as types. */
export const operation = <
  P extends Schema | undefined = undefined,
  Q extends Schema | undefined = undefined,
  B extends Schema | undefined = undefined,
  A extends Schema | undefined = undefined,
>(
  definition: Operation<P, Q, B, A>,
): Operation => definition as unknown as Operation

/** Reads and checks the request, all that is wrong with it at once, then does the operation. */
export async function run(op: Operation, c: AppContext): Promise<Response> {
  if (op.protocol === "oauth") return send(c, await op.handle(c, AS_A_FORM))
  const body = await readBody(c.req.raw, op.body === undefined ? "none" : op.bodyOptional ? "optional" : "required", op.bodyMedia)
  const idempotency = op.method === "get" ? null : await readIdempotency(c, body.text)
  const valid = validate(op, { params: c.req.param(), query: c.req.queries(), body: body.json })
  const hold = holdOf(op.mayHold ? c.req.header(PREFER_HEADER) : undefined)
  const apart = isTenants(op.access) && op.admission !== "by-its-call"
  if (apart) await tenantOf(c).admit(callerOf(c))
  const handle = async (ids: Ids) => op.handle(c, { ...valid, idempotency, hold, ids } as Input<unknown, unknown, unknown>)
  const changes = op.method !== "get" && (apart || op.access === OPERATOR_SCOPE)
  const work = (ids: Ids) => (changes ? audited(c, targetOf(valid.params), () => handle(ids)) : handle(ids))
  const byDirectory = op.access === OPERATOR_SCOPE || op.idempotency === "directory"
  if (!byDirectory || idempotency === null) return send(c, await work(c.var.services.ids))
  const { tenant, subject, token } = c.var.principal
  // An answer may hold a secret, so a tenant's is for the very token that asked; others may have the same subject.
  const owner = tenant === null ? `op:${subject}` : `${tenant}:${token}`
  return send(c, await once(c, owner, idempotency, async (ids) => storable(await work(ids))))
}

/** What the path names. */
function targetOf(params: unknown): string | null {
  const named = typeof params === "object" && params !== null ? Object.values(params).map(String) : []
  return named.length === 0 ? null : named.join("/")
}

/** Of an operation that reads its form itself. */
const AS_A_FORM = {
  params: undefined,
  query: undefined,
  body: undefined,
  idempotency: null,
  hold: holdOf(undefined),
} as unknown as Input<unknown, unknown, unknown>

function storable(reply: Reply<unknown> | Response): StoredAnswer {
  if (reply instanceof Response) throw new Error("a call whose answer the directory keeps must answer with a value")
  return reply
}

function send(c: AppContext, reply: StoredAnswer | Response): Response {
  if (reply instanceof Response) return reply
  if (reply.status === 204) return c.body(null, 204, reply.headers)
  return c.body(JSON.stringify(reply.body), reply.status as 200, { "content-type": "application/json", ...reply.headers })
}

/** An answer that is JSON already. */
export const jsonText = (c: AppContext, text: string): Response => c.body(text, 200, { "content-type": "application/json" })

/** The caller's tenant. Operations with a tenant's scope have one: `authenticate` saw to it. */
export function tenantIdOf(c: AppContext): TenantId {
  const { tenant } = c.var.principal
  if (tenant === null) throw new Error("an operator's token came to a tenant's operation")
  return tenant
}

export const tenantOf = (c: AppContext) => c.var.services.peers.tenant(tenantIdOf(c))
