/**
 * Questions to the file systems of containers, and to devices. A disk or a driver that hangs never answers, and who waits for it
 * in a call of the kernel cannot be called back: so questions are asked beside the bridge's own thread, wait so long and no
 * longer, and take no more than two of the four threads on which Node does all other work with files. An answer that does not
 * come is null: not known.
 */

/** A statfs takes microseconds, and a disk that writes all it can some tens of milliseconds. */
const ANSWER_MS = 1_000
/** Node's pool has four threads. A question that hangs holds its own until the kernel gives it back. */
const MOST_OPEN = 2

interface Question {
  /** Resolves when the kernel gave the thread back. */
  readonly over: Promise<void>
  overdue: boolean
}

export class Patience {
  readonly #open = new Map<string, Question>()
  readonly #answerMs: number

  constructor(answerMs = ANSWER_MS) {
    this.#answerMs = answerMs
  }

  /**
   * The answer about `subject`, or null when it does not come in time, or cannot while others hang. A subject that hangs is not
   * asked again before it has answered. Throws what `question` throws.
   */
  async ask<T>(subject: string, question: () => Promise<T>, answerMs = this.#answerMs): Promise<T | null> {
    const { promise: late, resolve } = Promise.withResolvers<null>()
    const timer = setTimeout(() => resolve(null), answerMs)
    try {
      for (;;) {
        const before = this.#open.get(subject)
        if (before === undefined && this.#open.size < MOST_OPEN) break
        const ahead = before === undefined ? [...this.#open.values()] : [before]
        if (ahead.every(({ overdue }) => overdue)) return null
        if ((await Promise.race([late, ...ahead.map(({ over }) => over)])) === null) return null
      }
      const answer = question()
      const asked = this.#hold(subject, answer)
      const first = await Promise.race([late, answer.then((value) => ({ value }))])
      if (first !== null) return first.value
      asked.overdue = true
      return null
    } finally {
      clearTimeout(timer)
    }
  }

  /** Whether the last question about it is overdue, and not that it was never asked because others are. */
  hangs(subject: string): boolean {
    return this.#open.get(subject)?.overdue ?? false
  }

  #hold(subject: string, answer: Promise<unknown>): Question {
    const over = Promise.allSettled([answer]).then(() => void this.#open.delete(subject))
    const asked = { over, overdue: false }
    this.#open.set(subject, asked)
    return asked
  }
}

/** The process's one: what bounds the threads must count all that ask. */
export const patience = new Patience()
