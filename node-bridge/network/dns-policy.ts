/**
 * What a container is told of a name: its tenant's containers by us; the world's names by the host's name servers, when its
 * egress is open; of the provider's own network, nothing. Pure.
 */
import type { TenantId } from "../../schema/ids.ts"
import { parseIpv4 } from "./addresses.ts"
import type { Query, ResourceRecord } from "./dns-message.ts"
import { CLASS_IN, RCODE, TYPE } from "./dns-message.ts"
import type { Span } from "./egress.ts"
import { contains } from "./egress.ts"
import type { Resident } from "./residents.ts"

/** Containers are found by their name alone and by their name in here; nobody else's names end so. */
export const ZONE = "berth.internal"
/** A name moves with its container's next run: whoever remembers it for longer asks in vain. */
const NAME_TTL_SECONDS = 5

export type Decision =
  | { readonly kind: "answer"; readonly rcode: number; readonly records: readonly Omit<ResourceRecord, "class">[] }
  | { readonly kind: "forward" }

/**
 * Names of private networks (RFC 6761, RFC 6762, RFC 8375 and ICANN's `internal`): a host's name server may know the
 * provider's machines by them. Backwards, IPv6 begins with f where it is private.
 */
const PRIVATE_ZONES = ["internal", "local", "localhost", "invalid", "onion", "home.arpa", "f.ip6.arpa"]
/** Copies of whole zones, and everything at once (RFC 8482). */
const REFUSED_TYPES: readonly number[] = [TYPE.AXFR, TYPE.IXFR, TYPE.ANY]

const isUnder = (name: string, zone: string) => name === zone || name.endsWith(`.${zone}`)
const say = (rcode: number, records: readonly Omit<ResourceRecord, "class">[] = []): Decision => ({
  kind: "answer",
  rcode,
  records,
})

export interface Asked {
  readonly by: Resident
  readonly closed: readonly Span[]
  addressOf(tenantId: TenantId, name: string): string | undefined
}

export function decide(query: Query, asked: Asked): Decision {
  const { name, type } = query
  if (query.opcode !== 0) return say(RCODE.NOTIMP)
  // Other classes ask a server about itself.
  if (query.class !== CLASS_IN || REFUSED_TYPES.includes(type)) return say(RCODE.REFUSED)
  if (isUnder(name, ZONE)) return name === ZONE ? say(RCODE.NOERROR) : ofContainer(name.slice(0, -ZONE.length - 1), type, asked)
  // A bare name is a container or nothing: what a host's name server makes of one is its network's business.
  if (name !== "" && !name.includes(".") && (type === TYPE.A || type === TYPE.AAAA || asked.addressOf(asked.by.tenantId, name)))
    return ofContainer(name, type, asked)
  if (PRIVATE_ZONES.some((zone) => isUnder(name, zone)) || isClosedBackwards(name, asked.closed)) return say(RCODE.NXDOMAIN)
  // A question is a way out as well: to its domain's owner it carries what its name says. Only open egress has that.
  return asked.by.egress === "open" ? { kind: "forward" } : say(RCODE.REFUSED)
}

function ofContainer(name: string, type: number, { by, addressOf }: Asked): Decision {
  const address = addressOf(by.tenantId, name)
  if (address === undefined) return say(RCODE.NXDOMAIN)
  if (type !== TYPE.A) return say(RCODE.NOERROR)
  return say(RCODE.NOERROR, [{ type: TYPE.A, ttl: NAME_TTL_SECONDS, data: Buffer.from(address.split(".").map(Number)) }])
}

/** `4.3.2.1.in-addr.arpa` for an address that is closed, and the zones above such. */
function isClosedBackwards(name: string, closed: readonly Span[]): boolean {
  if (!name.endsWith(".in-addr.arpa")) return false
  const bytes = name.slice(0, -".in-addr.arpa".length).split(".").toReversed()
  const address = parseIpv4([...bytes, "0", "0", "0"].slice(0, 4).join("."))
  return address !== null && contains(closed, address)
}

/** Whether an answer names an address that no container may reach: a public name that leads inside is a trick or a secret. */
export function leadsInside(records: readonly ResourceRecord[], closed: readonly Span[]): boolean {
  return records.some(({ type, data }) => {
    if (type === TYPE.A && data.length === 4) return contains(closed, data.readUInt32BE())
    if (type === TYPE.AAAA && data.length === 16) return isPrivateIpv6(data, closed)
    return false
  })
}

/** All below 2000::/3 (loopback, IPv4 in disguise) but what leads to an open IPv4 address, and all above (local, multicast). */
function isPrivateIpv6(data: Buffer, closed: readonly Span[]): boolean {
  const mapped = data.subarray(0, 10).every((byte) => byte === 0) && data.readUInt16BE(10) === 0xffff
  return mapped ? contains(closed, data.readUInt32BE(12)) : data.readUInt8(0) >> 5 !== 1
}
