/**
 * Ids say what they name and when it was made: `ctr_01kax0…`. The form is TypeID 0.3 (a type prefix and a UUIDv7 in
 * Crockford base32), so they sort by creation time and are safe in URLs, file names and cgroup names.
 * Source: https://github.com/jetify-com/typeid/tree/main/spec and RFC 9562, section 5.7.
 */
import { z } from "zod"

const ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
const SUFFIX = /^[0-7][0-9a-hjkmnp-tv-z]{25}$/

/** How many random bytes an id takes beside its 48-bit time. */
export const ID_RANDOM_BYTES = 10

const idSchema = <const P extends string, const B extends string>(prefix: P, _brand: B) =>
  z
    .string()
    .regex(new RegExp(`^${prefix}_${SUFFIX.source.slice(1)}`), `must be an id that begins with ${prefix}_`)
    .brand<B>()

export const TenantId = idSchema("ten", "TenantId")
export const ContainerId = idSchema("ctr", "ContainerId")
export const RunId = idSchema("run", "RunId")
export const NodeId = idSchema("nod", "NodeId")
export const CellId = idSchema("cel", "CellId")
export const EventId = idSchema("evt", "EventId")
export const TokenId = idSchema("tok", "TokenId")
export const JoinTokenId = idSchema("jtk", "JoinTokenId")
export const RequestId = idSchema("req", "RequestId")
export const WebhookId = idSchema("whk", "WebhookId")
export const RegistryCredentialId = idSchema("rgc", "RegistryCredentialId")
export const TrustId = idSchema("tru", "TrustId")

export type TenantId = z.infer<typeof TenantId>
export type ContainerId = z.infer<typeof ContainerId>
export type RunId = z.infer<typeof RunId>
export type NodeId = z.infer<typeof NodeId>
export type CellId = z.infer<typeof CellId>
export type EventId = z.infer<typeof EventId>
export type TokenId = z.infer<typeof TokenId>
export type JoinTokenId = z.infer<typeof JoinTokenId>
export type RequestId = z.infer<typeof RequestId>
export type WebhookId = z.infer<typeof WebhookId>
export type RegistryCredentialId = z.infer<typeof RegistryCredentialId>
export type TrustId = z.infer<typeof TrustId>

const KINDS = {
  ten: TenantId,
  ctr: ContainerId,
  run: RunId,
  nod: NodeId,
  cel: CellId,
  evt: EventId,
  tok: TokenId,
  jtk: JoinTokenId,
  req: RequestId,
  whk: WebhookId,
  rgc: RegistryCredentialId,
  tru: TrustId,
} as const

export type IdPrefix = keyof typeof KINDS
export type IdOf<P extends IdPrefix> = z.infer<(typeof KINDS)[P]>

/** Makes an id of `prefix` from a time in milliseconds and `ID_RANDOM_BYTES` random bytes. */
export function formatId<P extends IdPrefix>(prefix: P, nowMs: number, random: Uint8Array): IdOf<P> {
  const bytes = new Uint8Array(16)
  new DataView(bytes.buffer).setBigUint64(0, BigInt(nowMs) << 16n)
  bytes.set(random.subarray(0, ID_RANDOM_BYTES), 6)
  bytes[6] = 0x70 | ((bytes[6] ?? 0) & 0x0f) // UUID version 7
  bytes[8] = 0x80 | ((bytes[8] ?? 0) & 0x3f) // RFC 9562 variant
  let bits = bytes.reduce((value, byte) => (value << 8n) | BigInt(byte), 0n)
  let suffix = ""
  for (let i = 0; i < 26; i++) {
    suffix = ALPHABET[Number(bits & 31n)] + suffix
    bits >>= 5n
  }
  return KINDS[prefix].parse(`${prefix}_${suffix}`) as IdOf<P>
}

/** True when `text` has the form of an id of this kind; a container's name never does. */
export function isId<P extends IdPrefix>(prefix: P, text: string): text is IdOf<P> {
  return KINDS[prefix].safeParse(text).success
}
