/**
 * Calls that come while one is under way go together as the next: each call to another object costs its way there and that
 * object's commit, however much it carries. The first goes at once, so whoever is alone waits for nobody.
 */
export class Gathered<T> {
  readonly #call: (items: readonly T[], goOn: () => void) => Promise<void>
  #turn: Promise<void> = Promise.resolve()
  #next: { readonly items: T[]; readonly done: Promise<void> } | null = null

  /** `goOn` lets the next call begin before this one has come to its end. */
  constructor(call: (items: readonly T[], goOn: () => void) => Promise<void>) {
    this.#call = call
  }

  /** Settles as the call does that these go with. */
  add(items: readonly T[]): Promise<void> {
    this.#next ??= this.#begin()
    this.#next.items.push(...items)
    return this.#next.done
  }

  #begin() {
    const items: T[] = []
    const { promise: mayGoOn, resolve: goOn } = Promise.withResolvers<void>()
    const done = this.#turn.then(() => {
      this.#next = null
      return this.#call(items, goOn)
    })
    this.#turn = mayGoOn
    done.then(goOn, goOn)
    return { items, done }
  }
}
