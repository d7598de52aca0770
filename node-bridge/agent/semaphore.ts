/** A few at once, first come first served; whoever waits may be called off. */

export interface Semaphore {
  /** Resolves to the function that gives the slot back (once). Rejects with the signal's reason when aborted before. */
  acquire(signal: AbortSignal): Promise<() => void>
}

export function semaphore(slots: number): Semaphore {
  let free = slots
  const waiting: (() => void)[] = []

  const giveBack = () => {
    let given = false
    return () => {
      if (given) return
      given = true
      const first = waiting.shift()
      if (first) first()
      else free += 1
    }
  }

  return {
    async acquire(signal) {
      signal.throwIfAborted()
      if (free > 0) {
        free -= 1
        return giveBack()
      }
      await new Promise<void>((resolve, reject) => {
        const take = () => {
          signal.removeEventListener("abort", leave)
          resolve()
        }
        const leave = () => {
          waiting.splice(waiting.indexOf(take), 1)
          reject(signal.reason)
        }
        waiting.push(take)
        signal.addEventListener("abort", leave, { once: true })
      })
      return giveBack()
    },
  }
}
