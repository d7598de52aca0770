/** A client that does not give up while the platform is away. */
import { waitFor } from "./wait-for.ts"

/** Repeats a call that got no answer, or 5xx, or that the first one with its Idempotency-Key still runs. */
export async function persist(call: () => Promise<Response>, timeoutMs = 20_000): Promise<Response> {
  let last = "no answer"
  const attempt = async () => {
    try {
      const response = await call()
      if (response.ok) return response
      last = `${response.status} ${await response.clone().text()}`
      return response.status >= 500 || last.includes("idempotency_in_progress") ? undefined : response
    } catch (error) {
      last = String(error)
      return undefined
    }
  }
  return await waitFor("an answer", attempt, timeoutMs).catch(() => {
    throw new Error(`no answer in ${timeoutMs} ms; the last was: ${last}`)
  })
}
