/** What a request carries through the worker, and the only place in it that turns ids into stubs of objects. */
import type { Context } from "hono"
import type { Clock, Env, Ids, Peers } from "../durable/shared/ports.ts"
import { type Sealer, sealerFor } from "../durable/shared/sealing.ts"
import { parseRanges, refusedDestination } from "../durable/tenant/webhooks/destination.ts"
import { formatId, ID_RANDOM_BYTES } from "../schema/ids.ts"
import type { RequestId } from "../schema/ids.ts"
import type { Directory } from "./directory.ts"
import { openDirectory } from "./directory.ts"
import type { Proof } from "./dpop.ts"
import type { Keyring } from "./keyring.ts"
import { openKeyring } from "./keyring.ts"
import { RateLimiter } from "./rate-limit.ts"
import type { Issuers, Outbound } from "./issuers.ts"
import { openIssuers } from "./issuers.ts"
import type { VerifiedAccess } from "./tokens.ts"

/** Who calls, as its token proved. Without a tenant it is an operator. */
export type Principal = VerifiedAccess

/** What handlers work with; made once for each isolate, so its caches live as long. */
export interface Services {
  readonly clock: Clock
  readonly ids: Ids
  readonly peers: Peers
  readonly directory: Directory
  readonly keyring: Keyring
  readonly rateLimiter: RateLimiter
  /** Of answers that are stored to be given again: some hold a token, and the directory must not be a place to read tokens from. */
  readonly sealer: Sealer
  readonly outbound: Outbound
  readonly issuers: Issuers
}

export interface AppEnv {
  Bindings: Env
  Variables: {
    requestId: RequestId
    operation: string
    services: Services
    principal: Principal
    /** Of the caller's token, when it is bound to a key. */
    proof: Proof | undefined
    /** The scopes that some operation needs; a token can have no others. */
    offered: ReadonlySet<string>
  }
}
export type AppContext = Context<AppEnv>

/** Far above what one pipeline needs, and below what would starve others of an isolate. */
const DEFAULT_RATE_PER_MINUTE = 120_000

const systemClock: Clock = { now: () => Date.now() }
const systemIds: Ids = {
  make: (prefix) => formatId(prefix, systemClock.now(), crypto.getRandomValues(new Uint8Array(ID_RANDOM_BYTES))),
}

const byName = (namespace: DurableObjectNamespace, name: string) => namespace.get(namespace.idFromName(name))

const peersOf = (env: Env): Peers => ({
  tenant: (id) => byName(env.TENANT, id) as unknown as ReturnType<Peers["tenant"]>,
  cell: (id) => byName(env.CELL, id) as unknown as ReturnType<Peers["cell"]>,
  node: (id) => byName(env.NODE, id) as unknown as ReturnType<Peers["node"]>,
})

function outboundOf(env: Env): Outbound {
  const allowed = parseRanges(env.WEBHOOK_ALLOW ?? "")
  const network = env.WEBHOOK_NETWORK ?? { fetch: (url, init) => fetch(url, init) }
  return { refused: (url) => refusedDestination(url, allowed), fetch: (url, init) => network.fetch(url, init) }
}

const opened = new WeakMap<Env, Services>()

/** The real services over these bindings. */
export function servicesOf(env: Env): Services {
  const known = opened.get(env)
  if (known) return known
  const directory = openDirectory(env.DIRECTORY)
  const outbound = outboundOf(env)
  const services = {
    clock: systemClock,
    ids: systemIds,
    peers: peersOf(env),
    directory,
    keyring: openKeyring(env, directory, sealerFor(env.SECRETS_KEY, "signing keys"), systemClock),
    rateLimiter: new RateLimiter(Number(env.RATE_LIMIT_PER_MINUTE ?? DEFAULT_RATE_PER_MINUTE)),
    sealer: sealerFor(env.SECRETS_KEY, "stored answers"),
    outbound,
    issuers: openIssuers(outbound, systemClock),
  }
  opened.set(env, services)
  return services
}
