/**
 * What the packet filter knows of one container, as elements of the sets in `rules.ts`: whose it is, with whom it may speak,
 * and which connections are its own. The rules name no container, so that starting or changing one only adds and deletes
 * elements. Pure.
 */
import { formatIpv4, parseIpv4 } from "./addresses.ts"
import type { Egress, Span } from "./egress.ts"
import { formatSpan, spansOf } from "./egress.ts"

/** A set of the table, or a map when its elements carry `data`. */
export type SetName = "tenants" | "peers" | "runs" | "flows" | "open" | "listed"

export type Field =
  | { readonly kind: "address"; readonly value: number }
  | { readonly kind: "range"; readonly value: Span }
  | { readonly kind: "mark"; readonly value: number }

export interface Element {
  readonly set: SetName
  readonly key: readonly Field[]
  readonly data?: Field
}

export interface Party {
  readonly address: string
  /** Numbers of this table's own: the tenant's is nobody else's, above 0; the run's may meet another run's. */
  readonly tenant: number
  readonly run: number
  readonly egress: Egress
}

export function elementsOf({ address: text, tenant, run, egress }: Party): Element[] {
  const value = parseIpv4(text)
  if (value === null) throw new Error(`"${text}" is no IPv4 address`)
  const address = { kind: "address", value } as const
  const tenantMark = { kind: "mark", value: tenant } as const
  const runMark = { kind: "mark", value: run } as const
  return [
    { set: "tenants", key: [address], data: tenantMark },
    { set: "peers", key: [tenantMark, address] },
    { set: "runs", key: [address], data: runMark },
    { set: "flows", key: [runMark, address] },
    ...(egress === "open" ? [{ set: "open", key: [address] } as const] : []),
    ...spansOf(egress).map((span) => ({ set: "listed", key: [address, { kind: "range", value: span }] }) as const),
  ]
}

function fieldText(field: Field): string {
  switch (field.kind) {
    case "address":
      return formatIpv4(field.value)
    case "range":
      return formatSpan(field.value)
    case "mark":
      return `0x${field.value.toString(16)}`
  }
}

/** As `nft` reads it inside `elements = { … }`. */
export const elementText = ({ key, data }: Element): string =>
  `${key.map(fieldText).join(" . ")}${data === undefined ? "" : ` : ${fieldText(data)}`}`

/** What must be deleted and added to get from one set of elements to the other. */
export function difference(before: readonly Element[], after: readonly Element[]) {
  const name = (element: Element) => `${element.set} ${elementText(element)}`
  const had = new Set(before.map(name))
  const has = new Set(after.map(name))
  return {
    gone: before.filter((element) => !has.has(name(element))),
    added: after.filter((element) => !had.has(name(element))),
  }
}
