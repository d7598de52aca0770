/**
 * The packet filter of one bridge, as the text of one nft table that is loaded in one transaction. It names no single
 * container: the links' common prefix and the host's own /32 routes carry all there is to know, so that starting a
 * container touches no rule. Pure.
 *
 * What it makes true: a packet leaves a container only with that container's address; it reaches no other container, not
 * the host, no link-local or private network; what comes back belongs to a connection that the container opened.
 */
import type { AddressRange } from "./addresses.ts"
import { formatRange, linkPrefix } from "./addresses.ts"

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

export interface RuleOptions {
  readonly instance: string
  readonly range: AddressRange
  /** IPv4 addresses of name servers: port 53 of these alone is open even inside a closed network. */
  readonly nameservers: readonly string[]
  /** Further networks of the operator's that no container may reach. */
  readonly closedNetworks: readonly string[]
}

export const tableName = (instance: string) => `berth_${linkPrefix(instance).slice(1)}`

/** `nft -f` input: replaces the table whether or not it is there. */
export function ruleset(options: RuleOptions): string {
  const table = `inet ${tableName(options.instance)}`
  const ours = `"${linkPrefix(options.instance)}*"`
  const closed = [...PRIVATE_NETWORKS, ...options.closedNetworks]
  const resolvers = options.nameservers.length === 0 ? "" : `elements = { ${options.nameservers.join(", ")} }`
  return `
table ${table}
delete table ${table}
table ${table} {
  set resolvers {
    type ipv4_addr
    ${resolvers}
  }
  set closed {
    type ipv4_addr
    flags interval
    auto-merge
    elements = { ${closed.join(", ")} }
  }
  chain source {
    type filter hook prerouting priority raw; policy accept;
    iifname != ${ours} return
    meta nfproto != ipv4 drop
    fib saddr . iif oif missing drop comment "the /32 route says which address is behind which link"
  }
  chain host {
    type filter hook input priority filter; policy accept;
    iifname != ${ours} return
    ct state established,related accept
    drop
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname ${ours} jump outbound
    oifname ${ours} jump inbound
  }
  chain outbound {
    oifname ${ours} drop
    ip daddr @resolvers meta l4proto { tcp, udp } th dport 53 accept
    ip daddr @closed drop
    accept
  }
  chain inbound {
    ct state established,related accept
    drop
  }
  chain translate {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr ${formatRange(options.range)} oifname != ${ours} masquerade
  }
}
`
}

export const dropTable = (instance: string) => `table inet ${tableName(instance)}\ndelete table inet ${tableName(instance)}\n`
