/**
 * The networks that no container may reach, on any node. Asking for one is refused when it is asked, not on the node: the
 * node's packet filter has the same list, beside what its operator closes there. Pure.
 */
import type { z } from "zod"

/**
 * Where nothing public is: RFC 6890's private, shared, loopback, link-local (cloud metadata), protocol, benchmarking,
 * multicast and reserved networks. The documentation networks are left out: nobody has anything there.
 */
export const PRIVATE_NETWORKS = [
  "0.0.0.0/8",
  "10.0.0.0/8",
  "100.64.0.0/10",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "172.16.0.0/12",
  "192.0.0.0/24",
  "192.168.0.0/16",
  "198.18.0.0/15",
  "224.0.0.0/3",
] as const

/** The bits of an IPv4 range that its prefix fixes, as text. */
function bitsOf(cidr: string): string {
  const [address = "", prefix] = cidr.split("/")
  const bits = address.split(".").map((byte) => Number(byte).toString(2).padStart(8, "0"))
  return bits.join("").slice(0, Number(prefix))
}
const PRIVATE_BITS = PRIVATE_NETWORKS.map(bitsOf)

/**
 * Whether all of a range is private. Two ranges `a.b.c.d/prefix` are apart or one holds the other, and no two private ones
 * touch: so a range is private when it begins with all the bits of one.
 */
export function isPrivate(cidr: string): boolean {
  const bits = bitsOf(cidr)
  return PRIVATE_BITS.some((network) => bits.startsWith(network))
}

interface AsksForNetwork {
  readonly network?: { readonly egress?: string | readonly string[] | undefined } | undefined
}

/** For what tenants send alone: what was stored or given to a node before a network was closed must stay readable. */
export function onlyPublic({ network }: AsksForNetwork, context: z.core.$RefinementCtx): void {
  const egress = network?.egress
  if (typeof egress !== "object") return
  for (const [index, range] of egress.entries()) {
    if (!isPrivate(range)) continue
    const message = "is private: containers reach public networks, and containers of their tenant without being named here"
    context.addIssue({ code: "custom", path: ["network", "egress", index], message })
  }
}
