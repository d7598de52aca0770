/**
 * The audit log: who called what, by which token, on what, and what came of it. Each entry holds the hash of the one before,
 * so cutting, changing or reordering one is seen in all that follow; a signed checkpoint vouches for the last. Pure.
 */
import { z } from "zod"
import { fromQuery, MAX_PAGE } from "./api.ts"

/** Entries are kept this long. */
export const AUDIT_RETENTION_SECONDS = 365 * 24 * 3600
/** What the first entry of all has in place of a hash before it. */
export const AUDIT_GENESIS = "0".repeat(64)
/** `typ` of a checkpoint: a JWT of that kind is good for nothing else (RFC 8725, section 3.11). */
export const CHECKPOINT_TYPE = "berth-audit-checkpoint+jwt"

export const AuditEntry = z
  .object({
    seq: z.int().meta({ description: "Rises by one." }),
    time: z.iso.datetime(),
    subject: z.string(),
    token_id: z.string(),
    request_id: z.string(),
    operation: z.string().meta({ description: "The operation's id, as this API's description names it." }),
    target: z.string().nullable().meta({ description: "What it was about, as the caller named it; what it made, by its id." }),
    result: z.string().meta({
      description: "`ok`, or the problem's code. `begun`: it was let in; a second entry of the same request says how it ended.",
    }),
    previous: z.string().meta({ description: "The hash of the entry before." }),
    hash: z.string().meta({ description: "SHA-256, hex, of a JSON array of all fields above in this order." }),
  })
  .meta({ id: "AuditEntry" })
export type AuditEntry = z.infer<typeof AuditEntry>

/** What an entry's hash is the SHA-256 of: as JSON.stringify (ECMA-262) writes it, in UTF-8. */
export const hashedText = (entry: Omit<AuditEntry, "hash">): string => {
  const { seq, time, subject, token_id, request_id, operation, target, result, previous } = entry
  return JSON.stringify([seq, time, subject, token_id, request_id, operation, target, result, previous])
}

export const AuditQuery = z.strictObject({
  after: fromQuery(z.int().min(0)).default(0).meta({ description: "The `seq` of the last entry that you have." }),
  limit: fromQuery(z.int().min(1).max(MAX_PAGE)).default(MAX_PAGE),
})

export const AuditPage = z
  .object({
    items: z.array(AuditEntry),
    next_cursor: z.string().nullable(),
    checkpoint: z.string().meta({
      description:
        "A JWT (EdDSA; keys at /.well-known/jwks.json) of the log's last entry: `sub` whose log, `seq`, `hash`, `iat`. Keep it: a " +
        "log that is cut later cannot hold what it names.",
    }),
  })
  .meta({ id: "AuditPage" })
export type AuditPage = z.infer<typeof AuditPage>
