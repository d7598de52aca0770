/** Reads what the kernel says of one container's network: `nft list table` and `tc -j qdisc`. Pure. */
import { z } from "zod"
import { parseIpv4 } from "./addresses.ts"
import type { Egress, Span } from "./egress.ts"
import { merged, networksOf, spanOf } from "./egress.ts"

export interface NamedElement {
  readonly set: string
  /** As nft prints it. */
  readonly text: string
}

/** The elements of a table's sets and maps that name an address. */
export function elementsNaming(address: string, table: string): NamedElement[] {
  const sets = table.matchAll(/^\t(?:set|map) (\S+) \{\n([\s\S]*?)^\t\}/gm)
  return [...sets].flatMap(([, set = "", body = ""]) => {
    const list = /elements = \{([\s\S]*?)\}/.exec(body)?.[1] ?? ""
    return list
      .split(",")
      .map((text) => text.trim())
      .filter((text) => text.split(/\s+/).includes(address))
      .map((text) => ({ set, text }))
  })
}

/** `1.2.3.4`, `1.2.3.0/24` or `1.2.3.4-1.2.3.9`. */
function parseSpan(text: string): Span {
  const [first = "", last] = text.split("-")
  if (last === undefined) return spanOf(first.includes("/") ? first : `${first}/32`)
  const ends = { first: parseIpv4(first), last: parseIpv4(last) }
  if (ends.first === null || ends.last === null) throw new Error(`"${text}" is no range of nft's`)
  return { first: ends.first, last: ends.last }
}

/** What a container's elements let out. */
export function egressOf(elements: readonly NamedElement[]): Egress {
  if (elements.some(({ set }) => set === "open")) return "open"
  const spans = elements.filter(({ set }) => set === "listed").map(({ text }) => parseSpan(text.split(" . ")[1]?.trim() ?? ""))
  return spans.length === 0 ? "none" : merged(spans).flatMap(networksOf)
}

const Queues = z.array(
  z.object({ kind: z.string(), root: z.boolean().optional(), options: z.object({ rate: z.number().optional() }).optional() }),
)

/** The rate of a link's outgoing side, in bytes per second; null without one. */
export function rateOf(tcJson: string): number | null {
  const queues = Queues.parse(JSON.parse(tcJson))
  return queues.find(({ kind, root }) => kind === "tbf" && root === true)?.options?.rate ?? null
}
