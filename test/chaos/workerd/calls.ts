/**
 * Stands between the objects: every call that one makes of another passes here, where it can get lost, come twice or late, or
 * find that either side's object is gone before or after the work was done. Tests run in the objects' isolate, so the classes'
 * own methods are replaced; what they do is still done by them.
 */
import { vi } from "vitest"
import { CellObject } from "../../../durable/cell/object.ts"
import { NodeObject } from "../../../durable/node/object.ts"
import type { Ask } from "../../../durable/shared/rpc.ts"
import { TenantObject } from "../../../durable/tenant/object.ts"
import type { RunId } from "../../../schema/ids.ts"
import type { Assignment } from "../../../schema/protocol.ts"

export const CALL_FAULTS = [
  "call_lost", "answer_lost", "call_twice", "call_late", "callee_aborted_before", "callee_aborted_after", "caller_aborted",
] as const // prettier-ignore
export type CallFault = (typeof CALL_FAULTS)[number]

/** The name of an object: its tenant's, cell's or node's id. */
export type Name = string

/** Asked, not awaited: a promise of another request's may not be kept in an object that is thrown away meanwhile. */
export type Done = () => boolean

export interface Judge {
  /** What befalls this call, or nothing. */
  fault(method: string, callee: Name): CallFault | undefined
  /** True once a late call may go on. */
  late(): Done
  /** Throws that object away; true once it is gone. */
  abort(name: Name): Done
  /** Whose run it is. */
  tenantOf(run: RunId): Name | undefined
}

/** As the classes keep it; `protected` in their types. */
interface Living {
  readonly ctx: DurableObjectState
}
type Method = (...args: never[]) => Promise<unknown>
type CallerOf = (args: readonly unknown[]) => Name | undefined

/** Real milliseconds after which a call that did not end is taken for cancelled: its caller's caller was thrown away. */
const CANCELLED_MS = 1_000
/** Real milliseconds. */
const ASK_AGAIN_MS = 5

const NEVER = new Promise<never>(() => {})

interface UnderWay {
  readonly callee: Name | undefined
  readonly caller: Name | undefined
  /** It waits for time to pass. */
  parked: boolean
  since: number
}

const askingTenant: CallerOf = (args) => (args[1] as readonly Ask[])[0]?.tenant_id
const first: CallerOf = (args) => args[0] as Name

export class Calls {
  readonly #judge: Judge
  readonly #names = new Map<string, Name>()
  readonly #under = new Set<UnderWay>()
  /** Counts whatever happens between objects. */
  moves = 0

  constructor(judge: Judge) {
    this.#judge = judge
    const runsTenant: CallerOf = (args) => (args[0] as readonly RunId[]).map((run) => judge.tenantOf(run))[0]
    const between: readonly [object, string, CallerOf][] = [
      [CellObject.prototype, "place", askingTenant],
      [CellObject.prototype, "release", runsTenant],
      [CellObject.prototype, "registerNode", (args) => (args[1] as { readonly node_id: Name }).node_id],
      [CellObject.prototype, "setNodeReady", first],
      [CellObject.prototype, "forgetNode", first],
      [CellObject.prototype, "room", () => undefined],
      [NodeObject.prototype, "assign", (args) => (args[0] as readonly Assignment[])[0]?.tenant_id],
      [TenantObject.prototype, "observe", first],
      [TenantObject.prototype, "orphan", first],
      [TenantObject.prototype, "cutOff", first],
      [TenantObject.prototype, "evacuate", first],
      [TenantObject.prototype, "capacityChanged", first],
    ]
    for (const [prototype, method, caller] of between) this.#replace(prototype, method, caller)
    const own: readonly [object, readonly string[]][] = [
      [TenantObject.prototype, ["createContainer", "createBatch", "act", "alarm", "configure"]],
      [
        NodeObject.prototype,
        [
          "alarm",
          "webSocketMessage",
          "webSocketClose",
          "webSocketError",
          "fetch",
          "cordon",
          "uncordon",
          "drain",
          "moveTo",
          "forget",
        ],
      ],
    ]
    for (const [prototype, methods] of own) for (const method of methods) this.#replace(prototype, method, null)
  }

  /** Whether anything is under way that will go on by itself. */
  get busy(): boolean {
    const now = performance.now()
    for (const call of this.#under) {
      if (now - call.since > CANCELLED_MS && !call.parked) this.#under.delete(call)
    }
    return [...this.#under].some((call) => !call.parked)
  }

  call(id: DurableObjectId, name: Name): void {
    this.#names.set(id.toString(), name)
  }

  /** The object is gone, and with it what was under way in it or for it: workerd cancels both. */
  gone(name: Name): void {
    for (const call of this.#under) if (call.callee === name || call.caller === name) this.#under.delete(call)
  }

  #replace(prototype: object, method: string, callerOf: CallerOf | null): void {
    const real = Reflect.get(prototype, method) as Method
    const around = (object: Living, args: never[]) => {
      const work = () => real.apply(object, args)
      return callerOf === null ? this.#watched(work) : this.#around(object, method, callerOf(args), work)
    }
    vi.spyOn(prototype as Record<string, Method>, method).mockImplementation(function (this: unknown, ...args: never[]) {
      return around(this as Living, args)
    })
  }

  /** It may wait for calls of its own that are late, so that it is under way says nothing. */
  async #watched(work: () => Promise<unknown>): Promise<unknown> {
    this.moves += 1
    try {
      return await work()
    } finally {
      this.moves += 1
    }
  }

  async #around(object: Living, method: string, caller: Name | undefined, work: () => Promise<unknown>) {
    const callee = this.#names.get(object.ctx.id.toString())
    const call: UnderWay = { callee, caller, parked: false, since: performance.now() }
    this.#under.add(call)
    this.moves += 1
    try {
      const fault = callee === undefined ? undefined : this.#judge.fault(method, callee)
      return await this.#suffer(fault, object, method, call, work)
    } finally {
      this.#under.delete(call)
      this.moves += 1
    }
  }

  async #suffer(
    fault: CallFault | undefined,
    object: Living,
    method: string,
    call: UnderWay,
    work: () => Promise<unknown>,
  ): Promise<unknown> {
    switch (fault) {
      case undefined:
        return work()
      case "call_lost":
        throw new Error(`chaos: ${method} got lost`)
      case "answer_lost":
        await work()
        throw new Error(`chaos: the answer of ${method} got lost`)
      case "call_twice":
        await work()
        return work()
      case "call_late":
        await this.#parked(call, this.#judge.late())
        return work()
      case "callee_aborted_before":
        return this.#abort(object, call)
      case "callee_aborted_after":
        await work()
        await object.ctx.storage.sync()
        return this.#abort(object, call)
      case "caller_aborted": {
        const answer = await work()
        await object.ctx.storage.sync()
        if (call.caller !== undefined) await this.#parked(call, this.#judge.abort(call.caller))
        return answer
      }
    }
  }

  #abort(object: Living, { callee }: UnderWay): Promise<never> {
    if (callee !== undefined) this.gone(callee)
    object.ctx.abort("chaos")
    return NEVER
  }

  /** Waits for what the world does between two moments of rest. */
  async #parked(call: UnderWay, done: Done): Promise<void> {
    call.parked = true
    while (!done()) await scheduler.wait(ASK_AGAIN_MS)
    call.parked = false
    call.since = performance.now()
  }
}
