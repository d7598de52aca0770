/**
 * `Idempotency-Key`: the same key with the same call gets the first answer again. A tenant's keys are kept by its
 * TenantObject, in the transaction of the change itself; those of operators and nodes in the directory, by `once`.
 *
 * A call that dies between its change and its stored answer leaves its claim behind. After `CLAIM_SECONDS` a repeat takes over
 * and does the work again, with the same ids, so it finds what the first one made instead of making another.
 */
import type { Call } from "../../durable/shared/rpc.ts"
import type { Ids } from "../../durable/shared/ports.ts"
import { IDEMPOTENCY_SECONDS } from "../../schema/api.ts"
import { AppError } from "../../schema/errors.ts"
import { formatId } from "../../schema/ids.ts"
import type { AppContext } from "../env.ts"
import { sha256, sha256Hex } from "../hash.ts"

export const IDEMPOTENCY_HEADER = "Idempotency-Key"
const REPLAYED_HEADER = "Idempotency-Replayed"
/** Calls of this kind take well under a second; one that is older died. */
const CLAIM_SECONDS = 60

/** Tells a client that this answer was given before. */
export const replayHeaders = (replayed: boolean): Record<string, string> => (replayed ? { [REPLAYED_HEADER]: "true" } : {})

export type Idempotency = Call["idempotency"]

/** What the caller sent, or null without a key. @throws AppError `invalid_field`. */
export async function readIdempotency(c: AppContext, bodyText: string): Promise<Idempotency> {
  const key = c.req.header(IDEMPOTENCY_HEADER)
  if (key === undefined) return null
  if (!/^[\x21-\x7e]{1,255}$/.test(key))
    throw new AppError("invalid_field", `${IDEMPOTENCY_HEADER} must be 1 to 255 visible ASCII characters.`, {
      errors: [{ pointer: IDEMPOTENCY_HEADER, message: "must be 1 to 255 visible ASCII characters" }],
    })
  const { pathname, search } = new URL(c.req.url)
  return { key, fingerprint: await sha256Hex([c.req.method, pathname, search, bodyText].join("\n")) }
}

/** An answer as the API gives it and the directory stores it. */
export interface StoredAnswer {
  readonly status: number
  readonly body: unknown
  readonly headers?: Record<string, string>
}

/**
 * Does `work` once for each key of `owner`, and gives its answer again to a repeat. Refusals are not kept: they changed nothing.
 * @throws AppError `idempotency_mismatch`, `idempotency_in_progress`, and what `work` throws.
 */
export async function once<T extends StoredAnswer>(
  c: AppContext,
  owner: string,
  idempotency: Idempotency,
  work: (ids: Ids) => Promise<T>,
): Promise<StoredAnswer> {
  const { directory, clock, ids, sealer } = c.var.services
  if (idempotency === null) return work(ids)
  const nowMs = clock.now()
  // The key is the caller's secret as much as its answer is.
  const key = await sha256Hex(idempotency.key)
  const context = `${owner} ${key}`

  const held = await directory.claimKey(owner, key, idempotency.fingerprint, nowMs, nowMs - IDEMPOTENCY_SECONDS * 1000)
  if (held) {
    if (held.fingerprint !== idempotency.fingerprint)
      throw new AppError("idempotency_mismatch", `This ${IDEMPOTENCY_HEADER} came with another request before.`)
    if (held.answer !== null) return replay(await sealer.unseal(context, held.answer))
    const dead = nowMs - held.startedAtMs > CLAIM_SECONDS * 1000
    if (!dead || !(await directory.takeOverKey(owner, key, held.startedAtMs, nowMs)))
      throw new AppError("idempotency_in_progress", `The first call with this ${IDEMPOTENCY_HEADER} is still running.`)
  }
  const answer = await attempt(c, owner, key, async () => work(await repeatableIds(context, held?.createdAtMs ?? nowMs)))
  await directory.answerKey(owner, key, await sealer.seal(context, JSON.stringify(answer)))
  return answer
}

function replay(stored: string | undefined): StoredAnswer {
  if (stored === undefined)
    throw new AppError("idempotency_mismatch", "The first answer cannot be given again: the platform's key has changed since.")
  const answer = JSON.parse(stored) as StoredAnswer
  return { ...answer, headers: { ...answer.headers, ...replayHeaders(true) } }
}

async function attempt<T>(c: AppContext, owner: string, key: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof AppError) await c.var.services.directory.releaseKey(owner, key)
    throw error
  }
}

/** Ids that come out the same when the same call is done again. One of each kind: a call makes no two things of a kind. */
async function repeatableIds(context: string, atMs: number): Promise<Ids> {
  const random = await sha256(`${context} ${atMs}`)
  return { make: (prefix) => formatId(prefix, atMs, random) }
}
