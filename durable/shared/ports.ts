/** What the objects need from outside themselves, as parameters: bindings, clock, ids. Tests pass their own. */
import type { CellId, IdOf, IdPrefix, NodeId, TenantId } from "../../schema/ids.ts"
import { formatId, ID_RANDOM_BYTES } from "../../schema/ids.ts"
import type { CellRpc, NodeRpc, TenantRpc } from "./rpc.ts"

/** Bindings and variables of wrangler.toml; the embedded platform gives the same. */
export interface Env {
  readonly TENANT: DurableObjectNamespace
  readonly CELL: DurableObjectNamespace
  readonly NODE: DurableObjectNamespace
  readonly DIRECTORY: D1Database
  /** The platform's public URL: `iss` and `aud` of its tokens. */
  readonly ISSUER: string
  /** Private Ed25519 JWK with `kid`, as JSON: a secret. It signs the tokens that this platform issues. */
  readonly SIGNING_KEY: string
  /** 32 random bytes, base64url: a secret. Under it are sealed the secrets that tenants entrust to the platform. */
  readonly SECRETS_KEY: string
  /** Calls that one principal may make in a minute, in each isolate; 120,000 by default. */
  readonly RATE_LIMIT_PER_MINUTE?: string
  /** Address ranges that webhooks may lead to though they are not public, such as `127.0.0.1/32`; none by default. */
  readonly WEBHOOK_ALLOW?: string
  /** Where webhooks go out, where the platform judges the addresses that names resolve to by a network of its own. */
  readonly WEBHOOK_NETWORK?: { fetch(url: string, init: RequestInit): Promise<Response> }
}

export interface Clock {
  now(): number
}
export const systemClock: Clock = { now: () => Date.now() }

export interface Ids {
  make<P extends IdPrefix>(prefix: P): IdOf<P>
}
export const systemIds = (clock: Clock): Ids => ({
  make: (prefix) => formatId(prefix, clock.now(), crypto.getRandomValues(new Uint8Array(ID_RANDOM_BYTES))),
})

/** Below 2^31: where an object begins to count what must not be taken for what another life of it counted. */
export const randomNumber = (): number => (crypto.getRandomValues(new Uint32Array(1))[0] ?? 0) >>> 1

/** In [0, 1), for what is to be spread and not to be secret. */
export const randomFraction = (): number => (crypto.getRandomValues(new Uint32Array(1))[0] ?? 0) / 2 ** 32

/** The other objects, by id. */
export interface Peers {
  tenant(id: TenantId): TenantRpc
  cell(id: CellId): CellRpc
  node(id: NodeId): NodeRpc & { fetch(request: Request): Promise<Response> }
}

const byName = (namespace: DurableObjectNamespace, name: string) => namespace.get(namespace.idFromName(name))

export const peersOf = (env: Env): Peers => ({
  tenant: (id) => byName(env.TENANT, id) as unknown as ReturnType<Peers["tenant"]>,
  cell: (id) => byName(env.CELL, id) as unknown as ReturnType<Peers["cell"]>,
  node: (id) => byName(env.NODE, id) as unknown as ReturnType<Peers["node"]>,
})
