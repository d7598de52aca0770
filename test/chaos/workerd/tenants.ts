/**
 * Tenants at their jobs. A call whose answer does not come, or is a failure, is made again under its key until it has an
 * answer; some are made twice at once, and the answers of some get lost on their way back.
 */
import { asAppError, ERRORS } from "../../../schema/errors.ts"
import type { ContainerId, TenantId } from "../../../schema/ids.ts"
import { aCall, peers } from "../../support/control-plane.ts"
import type { Dice } from "./dice.ts"
import type { Deed, Job } from "./jobs.ts"
import type { World } from "./world.ts"

const AGAIN_MS = 500
/** Nothing but time makes room in a quota. */
const AGAIN_WHEN_FULL_MS = 4_000

export class Tenants {
  readonly #world: World
  readonly #dice: Dice
  /** Containers that something is still to be done to, or asked for. */
  open = 0
  /** Containers that take up quota now, about, by their tenant. */
  readonly busy = new Map<TenantId, number>()
  refusals = 0
  repeats = 0

  constructor(world: World) {
    this.#world = world
    this.#dice = world.dice.fork("tenants")
  }

  begin(job: Job): void {
    const { time } = this.#world
    const { tenant, count, lastsMs } = job
    this.open += count
    const taken = (by: number) => this.busy.set(tenant, (this.busy.get(tenant) ?? 0) + by)
    taken(count)
    this.#until(
      () => this.#make(job),
      (made) => {
        time.after(lastsMs, () => taken(-count))
        for (const [place, container] of made.entries()) this.#made(job, place, container)
      },
    )
  }

  async #make({ tenant, key, create, count }: Job): Promise<readonly ContainerId[]> {
    const call = aCall(key, key)
    if (count === 1) return [(await peers.tenant(tenant).createContainer(call, create)).body.id]
    return (await peers.tenant(tenant).createBatch(call, { count, container: create })).body.items.map(({ id }) => id)
  }

  #made(job: Job, place: number, container: ContainerId): void {
    const { tenant, create, count } = job
    const { start, remove_on_exit, restart, resources } = create
    const { cpus, memory_bytes } = resources
    const key = count === 1 ? job.key : `${job.key}/${place}`
    this.#world.recorder.add({
      kind: "asked", tenant, key, container, start, restart: restart.policy, remove_on_exit, asks: { cpus, memory_bytes },
    }) // prettier-ignore
    this.#next(job, key, container, 0)
  }

  #next(job: Job, key: string, container: ContainerId, place: number): void {
    const deed = job.deeds[place]
    if (deed === undefined) {
      this.open -= 1
      return
    }
    const next = () => this.#next(job, key, container, place + 1)
    this.#world.time.after(deed.afterMs, () => this.#do(job, `${key}/${place}`, container, deed.action, next))
  }

  #do(job: Job, key: string, container: ContainerId, action: Deed["action"], next: () => void): void {
    const { recorder } = this.#world
    recorder.add({ kind: "called", container, action: action.kind })
    this.#until(
      () => peers.tenant(job.tenant).act(aCall(key, key), container, action),
      () => {
        recorder.add({ kind: "acted", container, action: action.kind })
        next()
      },
      (code) => {
        if (code !== "action_not_allowed" || action.kind !== "remove" || action.force) return next()
        this.#do(job, `${key}/force`, container, { kind: "remove", force: true }, next)
      },
    )
  }

  #until<T>(call: () => Promise<T>, then: (answer: T) => void, refused?: (code: string) => void): void {
    const { time, rates, count } = this.#world
    let answered = false
    const again = (least: number) => {
      this.repeats += 1
      time.after(this.#dice.between(least, 3 * least), () => void once())
    }
    const once = async () => {
      if (answered) return
      const lost = this.#dice.chance(rates.call)
      try {
        const answer = await call()
        if (answered) return
        if (lost) {
          count("answer_to_tenant_lost")
          return again(AGAIN_MS)
        }
        answered = true
        then(answer)
      } catch (error) {
        if (answered) return
        const code = asAppError(error)?.code
        if (code === "quota_exceeded") this.refusals += 1
        if (code === undefined || ERRORS[code].retryable || refused === undefined)
          return again(code === "quota_exceeded" ? AGAIN_WHEN_FULL_MS : AGAIN_MS)
        answered = true
        refused(code)
      }
    }
    void once()
    if (!this.#dice.chance(rates.call)) return
    count("call_of_tenant_twice")
    void once()
  }
}
