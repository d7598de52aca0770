/**
 * What a container's `egress` comes to: ranges of addresses in order, without overlap, none of them inside what the platform
 * closes to everybody. A list can only narrow: it never opens what is closed. Pure.
 */
import type { z } from "zod"
import type { Egress as EgressSchema } from "../../schema/container.ts"
import { formatIpv4, parseIpv4 } from "./addresses.ts"

export type Egress = z.infer<typeof EgressSchema>

/** Both ends belong to it. */
export interface Span {
  readonly first: number
  readonly last: number
}

const LAST_ADDRESS = 0xffffffff

export function spanOf(cidr: string): Span {
  const [text = "", prefixText = ""] = cidr.split("/")
  const address = parseIpv4(text)
  const prefix = Number(prefixText)
  if (address === null || !/^\d+$/.test(prefixText) || prefix > 32) throw new Error(`"${cidr}" is no IPv4 range`)
  const size = 2 ** (32 - prefix)
  const first = Math.floor(address / size) * size
  return { first, last: first + size - 1 }
}

/** In order, and without overlap or neighbours that could be one: the kernel refuses ranges that overlap. */
export function merged(spans: readonly Span[]): Span[] {
  const out: Span[] = []
  for (const span of spans.toSorted((a, b) => a.first - b.first)) {
    const before = out.at(-1)
    if (before === undefined || span.first > before.last + 1) out.push(span)
    else out[out.length - 1] = { first: before.first, last: Math.max(before.last, span.last) }
  }
  return out
}

export const contains = (spans: readonly Span[], address: number) =>
  spans.some(({ first, last }) => first <= address && address <= last)

/** The ranges of a list that lie wholly in closed ones: nothing of them can be honoured, and their tenant should be told. */
export function whollyClosed(egress: Egress, closed: readonly Span[]): string[] {
  if (!Array.isArray(egress)) return []
  const all = merged(closed)
  return egress.filter((cidr) => {
    const span = spanOf(cidr)
    return all.some(({ first, last }) => first <= span.first && span.last <= last)
  })
}

export const spansOf = (egress: Egress): Span[] => (Array.isArray(egress) ? merged(egress.map(spanOf)) : [])

export const formatSpan = ({ first, last }: Span) =>
  first === last ? formatIpv4(first) : `${formatIpv4(first)}-${formatIpv4(last)}`

/** The fewest networks that make up a range, as `a.b.c.d/prefix`. */
export function networksOf({ first, last }: Span): string[] {
  const out: string[] = []
  for (let at = first; at <= last;) {
    let prefix = 32
    while (prefix > 0) {
      const size = 2 ** (33 - prefix)
      if (at % size !== 0 || at + size - 1 > last) break
      prefix -= 1
    }
    out.push(`${formatIpv4(at)}/${prefix}`)
    at += 2 ** (32 - prefix)
    if (at > LAST_ADDRESS) break
  }
  return out
}
