/**
 * The host's side of networking that all containers share: the packet filter, forwarding, an accept in Docker's chain where
 * Docker rules, and the name servers that a container can use. Everything here can be done again at any time.
 */
import { readFileSync, writeFileSync } from "node:fs"
import { networkInterfaces } from "node:os"
import { exec } from "../runtime/exec.ts"
import type { AddressRange } from "./addresses.ts"
import { formatRange, parseIpv4, parseRoutes } from "./addresses.ts"

/** nft and iptables answer in milliseconds; both wait for a lock when another tool holds it. */
const TOOL_TIMEOUT_MS = 10_000
const FORWARDING = "/proc/sys/net/ipv4/ip_forward"
const DEFAULT_MTU = 1500

export async function loadRules(text: string): Promise<void> {
  const result = await exec("nft", ["-f", "-"], { input: text, timeoutMs: TOOL_TIMEOUT_MS })
  if (result.code !== 0) throw new Error(`nft: ${result.stderr.trim().slice(0, 500)}`)
}

/** True when it had to be switched on. It is not switched off again: by then others may count on it. */
export function ensureForwarding(): boolean {
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

/** systemd-resolved's stub is on loopback; the servers behind it are in the second file. */
const RESOLVER_FILES = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"] as const

/** The IPv4 name servers of a resolv.conf that are reachable from another network namespace. */
export function parseNameservers(resolvConf: string): string[] {
  return resolvConf.split("\n").flatMap((line) => {
    const address = /^\s*nameserver\s+(\S+)/.exec(line)?.[1] ?? ""
    const value = parseIpv4(address)
    return value === null || value >>> 24 === 127 || value === 0 ? [] : [address]
  })
}

/** The host's own name servers, or the fallback when it has none that a container can reach: the host itself is closed. */
export function nameserversOf(fallback: readonly string[]): readonly string[] {
  const own = new Set(Object.values(networkInterfaces()).flatMap((addresses) => (addresses ?? []).map(({ address }) => address)))
  for (const file of RESOLVER_FILES) {
    try {
      const found = parseNameservers(readFileSync(file, "latin1")).filter((address) => !own.has(address))
      if (found.length > 0) return found
    } catch {
      // This host has no such file.
    }
  }
  return fallback
}
