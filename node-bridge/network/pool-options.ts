/** What the operator may say of a host's container networks, and what holds where nothing is said. */
export interface PoolOptions {
  /** The state directory: its hash names this bridge's links and table, so that two on one host never meet. */
  readonly stateDir: string
  /** Addresses of the containers. Nothing else on the host may route into it. */
  readonly range?: string
  /** Namespaces kept ready. */
  readonly size?: number
  /** Name servers to ask, for a host whose resolv.conf names none. */
  readonly fallbackNameservers?: readonly string[]
  /** Name servers to ask in place of the host's; `ADDRESS#PORT` for another port than 53. */
  readonly nameservers?: readonly string[]
  /** IPv4 networks that no container may reach, besides the private ones. */
  readonly closedNetworks?: readonly string[]
  /** Told what an operator should know of. */
  readonly warn?: (message: string) => void
}

/** Carrier-grade NAT space (RFC 6598): never on the public internet, rarely inside a data centre. */
export const DEFAULT_RANGE = "100.72.0.0/16"
/** More than are started at once on a small host; each takes some 0.3 MiB of the kernel's memory. */
export const DEFAULT_SIZE = 48
export const DEFAULT_NAMESERVERS = ["9.9.9.9", "1.1.1.1"]
