/**
 * Who has which address: slot N of the private range is one container's network, its address, and the name of its veth on
 * the host. The name carries the slot, so that after a crash the host's own list of links says what is in use. Pure.
 */

/** A private IPv4 range as `a.b.c.d/prefix`. */
export interface AddressRange {
  readonly base: number
  readonly prefix: number
}

/** Names of links are at most 15 bytes: `b`, six digits of the instance, four of the slot. */
const INSTANCE_DIGITS = 6
const SLOT_DIGITS = 4
/** The network's own address and the gateway's come before the first container's. */
const FIRST_SLOT = 2
/** Four hex digits of slot: a wider range than this has no names for its end. */
const MIN_PREFIX = 16
/** Fewer addresses than a /28 has would not hold a pool. */
const MAX_PREFIX = 28

export function formatIpv4(address: number): string {
  return [24, 16, 8, 0].map((shift) => (address >>> shift) & 0xff).join(".")
}

export function parseIpv4(text: string): number | null {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text)
  if (match === null) return null
  const bytes = match.slice(1).map(Number)
  if (bytes.some((byte) => byte > 255)) return null
  return bytes.reduce((sum, byte) => sum * 256 + byte, 0)
}

const maskOf = (prefix: number) => (prefix === 0 ? 0 : (0xffffffff << (32 - prefix)) >>> 0)

/** Throws with a sentence for the operator when the text is no usable range. */
export function parseRange(text: string): AddressRange {
  const [address = "", prefixText = ""] = text.split("/")
  const base = parseIpv4(address)
  const prefix = Number(prefixText)
  if (base === null || !Number.isInteger(prefix) || prefix < MIN_PREFIX || prefix > MAX_PREFIX)
    throw new Error(`"${text}" is not an IPv4 range between /${MIN_PREFIX} and /${MAX_PREFIX}, such as 100.72.0.0/16`)
  if ((base & maskOf(prefix)) >>> 0 !== base) throw new Error(`"${text}" has bits set after its /${prefix}`)
  return { base, prefix }
}

export const formatRange = (range: AddressRange) => `${formatIpv4(range.base)}/${range.prefix}`
export const gatewayOf = (range: AddressRange) => formatIpv4(range.base + 1)
export const addressOf = (range: AddressRange, slot: number) => formatIpv4(range.base + slot)

/** The slot after the last one; the very last address, the broadcast one, is never given out. */
const endOf = (range: AddressRange) => 2 ** (32 - range.prefix) - 1

export const slotCount = (range: AddressRange) => endOf(range) - FIRST_SLOT

/** The slot of an address, or null when it is not one that a container of this range can have. */
export function slotOf(range: AddressRange, address: string): number | null {
  const value = parseIpv4(address)
  if (value === null) return null
  const slot = value - range.base
  return slot >= FIRST_SLOT && slot < endOf(range) ? slot : null
}

/** The free slot after `last`, going round: an address rests for as long as possible before another container gets it. */
export function nextSlot(range: AddressRange, taken: { has(slot: number): boolean }, last: number | null): number | null {
  const count = slotCount(range)
  const start = last === null ? 0 : last + 1 - FIRST_SLOT
  for (let step = 0; step < count; step++) {
    const slot = FIRST_SLOT + ((start + step) % count)
    if (!taken.has(slot)) return slot
  }
  return null
}

/** What the names of all links of one bridge begin with. `instance` is hex, at least six digits. */
export const linkPrefix = (instance: string) => `b${instance.slice(0, INSTANCE_DIGITS)}`
export const linkName = (instance: string, slot: number) =>
  `${linkPrefix(instance)}${slot.toString(16).padStart(SLOT_DIGITS, "0")}`

/** A locally administered MAC address that carries the IPv4 address. */
export const macOf = (address: string) =>
  `02:62:${address
    .split(".")
    .map((byte) => Number(byte).toString(16).padStart(2, "0"))
    .join(":")}`

/** A destination in the host's routing table. */
export interface RouteEntry {
  readonly device: string
  readonly base: number
  readonly prefix: number
}

const flip = (hex: string) => Buffer.from(hex, "hex").readUInt32LE()

/** Reads /proc/net/route: hexadecimal, little-endian. */
export function parseRoutes(procNetRoute: string): RouteEntry[] {
  return procNetRoute
    .split("\n")
    .slice(1)
    .map((line) => line.trim().split(/\s+/))
    .flatMap(([device, destination, , , , , , mask]) => {
      if (device === undefined || destination === undefined || mask === undefined) return []
      const bits = flip(mask).toString(2).replaceAll("0", "").length
      return [{ device, base: flip(destination), prefix: bits }]
    })
}

/** Routes into the range that are not ours: an address that both use would belong to whoever comes last. */
export function overlapping(
  range: AddressRange,
  routes: readonly RouteEntry[],
  isOurs: (device: string) => boolean,
): RouteEntry[] {
  return routes.filter((route) => {
    if (route.prefix === 0 || isOurs(route.device)) return false
    const mask = maskOf(Math.min(route.prefix, range.prefix))
    return (route.base & mask) >>> 0 === (range.base & mask) >>> 0
  })
}
