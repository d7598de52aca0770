/**
 * The host's side of networking that all containers share: the packet filter, forwarding, an accept in Docker's chain where
 * Docker rules, and the host's own name servers. Everything here can be done again at any time.
 */
import { readFileSync, writeFileSync } from "node:fs"
import { isIP } from "node:net"
import { exec } from "../runtime/exec.ts"
import type { AddressRange } from "./addresses.ts"
import { formatRange, overlapping, parseRoutes } from "./addresses.ts"
import { dropTable } from "./rules.ts"

/** nft and iptables answer in milliseconds; both wait for a lock when another tool holds it. */
const TOOL_TIMEOUT_MS = 10_000
const FORWARDING = "/proc/sys/net/ipv4/ip_forward"
const DEFAULT_MTU = 1500

export async function loadRules(text: string): Promise<void> {
  const result = await exec("nft", ["-f", "-"], { input: text, timeoutMs: TOOL_TIMEOUT_MS })
  if (result.code !== 0) throw new Error(`nft: ${result.stderr.trim().slice(0, 500)}`)
}

/** Takes away the table of a bridge of which nobody is left whom it confines. */
export const dropTableOf = (instance: string): Promise<void> => loadRules(dropTable(instance))

/** Throws when the host routes into the range already. */
export function refuseOverlap(range: AddressRange): void {
  const routes = parseRoutes(readFileSync("/proc/net/route", "latin1"))
  // A /32 inside the range may be a container of another bridge on this host: slots are chosen around those.
  const [clash] = overlapping(range, routes, () => false).filter((route) => route.prefix < 32)
  if (clash === undefined) return
  throw new Error(`the containers' range ${formatRange(range)} overlaps a route of ${clash.device}: choose another range`)
}

/** Lets the host forward for the range; says what it changed. */
export async function letThrough(range: AddressRange): Promise<string[]> {
  const notes: string[] = []
  if (ensureForwarding()) notes.push("switched on net.ipv4.ip_forward: containers with egress need it")
  if (await dockerAccepts(range, true)) notes.push("accepted the containers' range in Docker's DOCKER-USER chain")
  return notes
}

/** True when it had to be switched on. It is not switched off again: by then others may count on it. */
function ensureForwarding(): boolean {
  if (readFileSync(FORWARDING, "latin1").trim() === "1") return false
  writeFileSync(FORWARDING, "1")
  return true
}

const iptables = (...args: string[]) => exec("iptables", ["-w", "5", ...args], { timeoutMs: TOOL_TIMEOUT_MS })

/**
 * A running Docker daemon sets the forward policy to drop, which no accept of another table overrides; the chain it leaves
 * to others is the one place to say otherwise. `present: false` takes our rules out. True when the chain is there.
 */
export async function dockerAccepts(range: AddressRange, present: boolean): Promise<boolean> {
  try {
    if ((await iptables("-n", "-L", "DOCKER-USER")).code !== 0) return false
  } catch {
    return false // no iptables, so no Docker rules
  }
  for (const side of ["-s", "-d"]) {
    const rule = ["DOCKER-USER", side, formatRange(range), "-j", "ACCEPT"]
    const exists = (await iptables("-C", ...rule)).code === 0
    if (exists === present) continue
    const result = await iptables(present ? "-I" : "-D", ...rule)
    if (result.code !== 0) throw new Error(`iptables: ${result.stderr.trim().slice(0, 500)}`)
  }
  return true
}

/** The MTU of the way out, so that what a container sends fits without fragments. */
export function uplinkMtu(): number {
  const uplink = parseRoutes(readFileSync("/proc/net/route", "latin1")).find((route) => route.prefix === 0)
  if (uplink === undefined) return DEFAULT_MTU
  return Number(readFileSync(`/sys/class/net/${uplink.device}/mtu`, "latin1"))
}

const RESOLV_CONF = "/etc/resolv.conf"

/** The name servers of a resolv.conf, IPv4 or IPv6; we ask them ourselves, so the host's own loopback is as good as any. */
export function parseNameservers(resolvConf: string): string[] {
  return resolvConf.split("\n").flatMap((line) => {
    const address = /^\s*nameserver\s+(\S+)/.exec(line)?.[1]
    return address === undefined || isIP(address) === 0 ? [] : [address]
  })
}

/** The host's name servers as its file has them now, or the fallback when it names none. */
export function nameserversOf(fallback: readonly string[]): readonly string[] {
  try {
    const found = parseNameservers(readFileSync(RESOLV_CONF, "latin1"))
    return found.length > 0 ? found : fallback
  } catch {
    return fallback // this host has no such file
  }
}
