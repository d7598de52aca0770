/** Makes this host a node: the join token and the public half of its key for a node id. Repeats until the platform answers. */
import { EnrollAnswer } from "../../schema/node.ts"
import type { EnrollRequest } from "../../schema/node.ts"
import type { Log } from "../log.ts"
import { explain } from "../log.ts"
import { backoffMs } from "./backoff.ts"
import { EXIT, Fault } from "./fault.ts"

const ANSWER_MS = 15_000
const MAX_ANSWER_BYTES = 64 * 1024

export interface EnrollOptions {
  readonly url: string
  readonly request: EnrollRequest
  readonly log: Log
  readonly random: () => number
  readonly sleep: (ms: number) => Promise<void>
}

/** Throws a `Fault` when the platform says no; anything else is tried again. */
export async function enroll(options: EnrollOptions): Promise<EnrollAnswer> {
  for (let tries = 1; ; tries++) {
    const answer = await attempt(options)
    if (answer.ok) return answer.value
    const inMs = backoffMs(tries, options.random())
    options.log.warn(`could not enrol this node: ${answer.why}; tries again`, { url: options.url, in_ms: Math.round(inMs) })
    await options.sleep(inMs)
  }
}

type Attempt = { readonly ok: true; readonly value: EnrollAnswer } | { readonly ok: false; readonly why: string }

async function attempt({ url, request }: EnrollOptions): Promise<Attempt> {
  try {
    const response = await fetch(new URL("/v1/nodes/enroll", url), {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(request),
      redirect: "error",
      signal: AbortSignal.timeout(ANSWER_MS),
    })
    const text = (await response.text()).slice(0, MAX_ANSWER_BYTES)
    if (response.ok) return { ok: true, value: EnrollAnswer.parse(JSON.parse(text)) }
    const why = detailOf(text) ?? `it answered ${response.status}`
    // 429 and 5xx pass; any other refusal will be the same tomorrow.
    if (response.status >= 500 || response.status === 429 || response.status === 408) return { ok: false, why }
    throw new Fault(EXIT.refused, `The platform refused to enrol this node: ${why}`)
  } catch (error) {
    if (error instanceof Fault) throw error
    return { ok: false, why: explain(error) }
  }
}

function detailOf(text: string): string | undefined {
  try {
    const body: unknown = JSON.parse(text)
    if (typeof body !== "object" || body === null) return undefined
    if ("detail" in body && typeof body.detail === "string") return body.detail
    return "title" in body && typeof body.title === "string" ? body.title : undefined
  } catch {
    return undefined
  }
}
