/** Waiting that can be left. What was begun goes on: whoever leaves only stops waiting for it. */

/** The promise's outcome, unless the signal aborts first: then rejects with its reason. */
export async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted()
  const { promise: left, reject } = Promise.withResolvers<never>()
  const leave = () => reject(signal.reason as Error)
  signal.addEventListener("abort", leave, { once: true })
  try {
    return await Promise.race([promise, left])
  } finally {
    signal.removeEventListener("abort", leave)
  }
}
