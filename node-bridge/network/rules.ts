/**
 * The packet filter of one bridge, as the text of one nft table that is loaded in one transaction. Its rules name no single
 * container: sets do, whose elements come and go with containers (`elements.ts`). A container that no set names is closed.
 *
 * What it makes true: a packet leaves a container only with that container's address; it reaches containers of its tenant
 * and what its egress allows, never another tenant's, the host, a link-local, private or provider's network; what comes back
 * belongs to a connection that this very run opened. Every packet is asked, not only a connection's first: a change of
 * egress holds for connections that are open. Pure.
 */
import { PRIVATE_NETWORKS } from "../../schema/private-networks.ts"
import type { AddressRange } from "./addresses.ts"
import { formatRange, linkPrefix } from "./addresses.ts"
import type { Element, SetName } from "./elements.ts"
import { elementText } from "./elements.ts"

export interface RuleOptions {
  readonly instance: string
  readonly range: AddressRange
  /** IPv4 networks of the operator's that no container may reach. */
  readonly closedNetworks: readonly string[]
  /** Where the bridge's name server listens, on all of the host's addresses; none but containers come through to it. */
  readonly namePort: number
  readonly elements: readonly Element[]
}

/**
 * Packets to the name server, of one tenant, in a second and at once. The bridge has one thread: what comes faster must not
 * even wake it. A page of a busy web site asks some ten names.
 */
const QUESTIONS_PER_SECOND = 500
const QUESTIONS_AT_ONCE = 500
/** Tenants that ask within a minute, or have connections; a host has far fewer ids to give. */
const MAX_TENANTS = 65_535
/**
 * Connections of one tenant on this node at once: the kernel's table of them is everybody's (262,144 entries on a machine of
 * 4 GiB or more), and for whom it has no room connects no more.
 */
const MAX_CONNECTIONS = 8_192

export const tableName = (instance: string) => `berth_${linkPrefix(instance).slice(1)}`

const SETS: readonly { readonly name: SetName; readonly type: string }[] = [
  { name: "tenants", type: "map tenants { type ipv4_addr : mark;" },
  { name: "peers", type: "set peers { type mark . ipv4_addr;" },
  { name: "runs", type: "map runs { type ipv4_addr : mark;" },
  { name: "flows", type: "set flows { type mark . ipv4_addr;" },
  { name: "open", type: "set open { type ipv4_addr;" },
  { name: "listed", type: "set listed { type ipv4_addr . ipv4_addr; flags interval;" },
]

function sets(elements: readonly Element[]): string {
  return SETS.map(({ name, type }) => {
    const own = elements.filter((element) => element.set === name)
    return `  ${type}${own.length === 0 ? "" : ` elements = { ${own.map(elementText).join(", ")} };`} }`
  }).join("\n")
}

/** `nft -f` input: replaces the table whether or not it is there; between the old and the new no packet passes. */
export function ruleset(options: RuleOptions): string {
  const table = `inet ${tableName(options.instance)}`
  const ours = `"${linkPrefix(options.instance)}*"`
  const closed = [...PRIVATE_NETWORKS, ...options.closedNetworks]
  const names = `meta l4proto { tcp, udp } th dport ${options.namePort}`
  const asks = "fib daddr type local meta l4proto { tcp, udp } th dport 53"
  return `
table ${table}
delete table ${table}
table ${table} {
${sets(options.elements)}
  set closed {
    type ipv4_addr
    flags interval
    auto-merge
    elements = { ${closed.join(", ")} }
  }
  set askers {
    type mark
    size ${MAX_TENANTS}
    flags dynamic,timeout
    timeout 1m
  }
  set crowds {
    type mark
    size ${MAX_TENANTS}
    flags dynamic
  }
  chain source {
    type filter hook prerouting priority raw; policy accept;
    iifname != ${ours} return
    meta nfproto != ipv4 drop
    fib saddr . iif oif missing drop comment "the /32 route says which address is behind which link"
    ${asks} jump ask
  }
  chain ask {
    meta mark set ip saddr map @tenants
    add @askers { meta mark limit rate over ${QUESTIONS_PER_SECOND}/second burst ${QUESTIONS_AT_ONCE} packets } drop
    meta mark set 0 comment "the operator's routing may go by marks"
  }
  chain name {
    type nat hook prerouting priority dstnat; policy accept;
    iifname ${ours} ${asks} redirect to :${options.namePort}
  }
  chain host {
    type filter hook input priority filter; policy accept;
    iifname ${ours} goto contained
    iifname != "lo" ${names} drop
  }
  chain contained {
    ct status dnat ${names} accept
    ct state established,related accept
    goto refuse
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname ${ours} goto outbound
    oifname ${ours} goto inbound
  }
  chain outbound {
    oifname ${ours} goto neighbour
    ip daddr @closed goto refuse
    ct state new jump count
    ct mark set ip saddr map @runs
    ip saddr @open accept
    ip saddr . ip daddr @listed accept
    goto refuse
  }
  chain count {
    meta mark set ip saddr map @tenants
    add @crowds { meta mark ct count over ${MAX_CONNECTIONS} } goto refuse
    meta mark set 0
  }
  chain neighbour {
    ct state new jump count
    meta mark set ip saddr map @tenants
    meta mark . ip daddr @peers accept
    goto refuse
  }
  chain inbound {
    ct state != { established, related } drop
    ct mark . ip daddr != @flows drop comment "a connection of whoever had the address before"
    ct state related ip protocol icmp accept
    ip saddr @closed drop
    ip daddr @open accept
    ip daddr . ip saddr @listed accept
    drop
  }
  chain refuse {
    meta l4proto tcp reject with tcp reset
    reject with icmpx admin-prohibited
  }
  chain translate {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr ${formatRange(options.range)} oifname != ${ours} masquerade
  }
}
`
}

export const dropTable = (instance: string) => `table inet ${tableName(instance)}\ndelete table inet ${tableName(instance)}\n`
