/**
 * Where an endpoint may lead: public addresses alone, unless the operator allows a range. What is written in the URL is
 * judged here; what a name resolves to, the network itself must judge at every delivery, because it may change in between.
 */
import ipaddr from "ipaddr.js"

/** Names that resolve on the host or inside a network, whatever the resolver (RFC 6761, RFC 6762, RFC 9476, ICANN's .internal). */
const LOCAL_NAMES = /(^|\.)(localhost|local|internal|home\.arpa|alt|test|invalid)$/

/** CIDR ranges in a list as operators write it: `127.0.0.1/32, 10.0.0.0/8`. @throws Error naming the one that is none. */
export function parseRanges(text: string): readonly string[] {
  const ranges = text.split(/[\s,]+/).filter((range) => range !== "")
  for (const range of ranges)
    if (!ipaddr.isValidCIDR(range)) throw new Error(`${range} is not an address range such as 10.0.0.0/8.`)
  return ranges
}

/** Why the URL cannot be called; undefined when it can. `allowed` are ranges that count as public, without https too. */
export function refusedDestination(text: string, allowed: readonly string[]): string | undefined {
  if (!URL.canParse(text)) return "is not a URL"
  const { protocol, hostname, username, password, hash } = new URL(text)
  if (username !== "" || password !== "") return "must not hold a user name or a password"
  if (hash !== "") return "must not have a fragment: it would never be sent"
  const host = hostname.replace(/\.$/, "")
  const literal = host.replace(/^\[(.*)\]$/, "$1")
  const address = ipaddr.isValid(literal) ? ipaddr.process(literal) : undefined
  const exempt =
    address === undefined ? host === "localhost" && isAllowed(ipaddr.parse("127.0.0.1"), allowed) : isAllowed(address, allowed)
  if (exempt) return undefined
  if (address !== undefined && !isPublic(address)) return `leads to ${address.toString()}, which is not a public address`
  if (address === undefined && (LOCAL_NAMES.test(host) || !host.includes(".")))
    return `leads to ${host}, which is not a public name`
  return protocol === "https:" ? undefined : "must be https"
}

/** Of IPv6, only 2000::/3 has been given out (IANA); what lies outside, such as `::127.0.0.1`, may be led back to the host. */
const GLOBAL_UNICAST = ipaddr.parseCIDR("2000::/3")

const isPublic = (address: ipaddr.IPv4 | ipaddr.IPv6) =>
  address.range() === "unicast" && (address.kind() === "ipv4" || address.match(GLOBAL_UNICAST))

const isAllowed = (address: ipaddr.IPv4 | ipaddr.IPv6, allowed: readonly string[]) =>
  allowed.some((range) => {
    const [network, bits] = ipaddr.parseCIDR(range)
    return network.kind() === address.kind() && address.match(network, bits)
  })
