/**
 * A host: a real bridge over the fake controller, with clocks of its own. What runs on it outlives its bridge, as real
 * containers do, and ends with the machine.
 */
import { Agent } from "../../../node-bridge/agent/agent.ts"
import type { Renewal } from "../../../node-bridge/agent/lease.ts"
import { silentLog } from "../../../node-bridge/log.ts"
import type { Controller, Started } from "../../../node-bridge/runtime/controller.ts"
import { FakeController } from "../../../node-bridge/runtime/fake-controller.ts"
import type { Timers } from "../../../node-bridge/timers.ts"
import type { CellId, NodeId, RunId } from "../../../schema/ids.ts"
import type { Capacity } from "../../../schema/node.ts"
import type { Assignment } from "../../../schema/protocol.ts"
import { someFacts } from "../../support/factories.ts"
import type { Recorder } from "../../support/history.ts"
import type { Dice } from "./dice.ts"
import type { Skew, VirtualTime } from "./virtual-time.ts"

/** Says what really happens on a host: what began, ended and was cleared away. */
class WatchedController extends FakeController {
  readonly #node: NodeId
  readonly #recorder: Recorder
  readonly #here = new Set<RunId>()
  readonly #alive = new Set<RunId>()
  /** Of `on_partition: keep`. */
  readonly #kept = new Set<RunId>()

  constructor(node: NodeId, recorder: Recorder, options: ConstructorParameters<typeof FakeController>[0]) {
    super(options, [])
    this.#node = node
    this.#recorder = recorder
  }

  get alive(): ReadonlySet<RunId> {
    return this.#alive
  }

  override async prepare(assignment: Assignment, signal: AbortSignal) {
    const { run_id, container_id } = assignment
    if (!this.#here.has(run_id)) this.#recorder.add({ kind: "accepted", run: run_id, container: container_id, node: this.#node })
    this.#here.add(run_id)
    return super.prepare(assignment, signal)
  }

  override async start(assignment: Assignment): Promise<Started> {
    const { run_id, container_id, tenant_id } = assignment
    const seen = await super.inspect(run_id)
    const started = await super.start(assignment)
    if (seen.kind !== "running" && seen.kind !== "exited" && !this.#alive.has(run_id)) {
      this.#alive.add(run_id)
      if (assignment.spec.on_partition === "keep") this.#kept.add(run_id)
      this.#recorder.add({ kind: "started", run: run_id, container: container_id, tenant: tenant_id, node: this.#node })
      const over = () => this.#exited(run_id)
      super.wait(run_id, new AbortController().signal).then(over, over)
    }
    return started
  }

  override async remove(runId: RunId): Promise<void> {
    await super.remove(runId)
    this.#exited(runId)
    if (this.#here.delete(runId)) this.#recorder.add({ kind: "destroyed", run: runId, node: this.#node })
  }

  /** What the guard beside the bridge does when the lease has run out, whether a bridge is there or not. */
  guard(): void {
    for (const run of this.#alive) if (!this.#kept.has(run)) void super.signal(run, "SIGKILL")
  }

  /** The machine went down, and all that ran on it. */
  powerOff(): void {
    for (const run of this.#alive) this.#exited(run)
    for (const run of this.#here) this.#recorder.add({ kind: "destroyed", run, node: this.#node })
    this.#here.clear()
  }

  #exited(run: RunId): void {
    if (this.#alive.delete(run)) this.#recorder.add({ kind: "exited", run, node: this.#node })
  }
}

/** One life of a bridge: what it waits for when it is killed never comes. */
interface Life {
  over: boolean
}

const NEVER = new Promise<never>(() => {})

/** What the host's own work takes, milliseconds. It is done by the bridge, so it ends with it. */
const PREPARE_MS = 1_000
const START_MS = 100

/** The controller as one bridge has it: nothing that a dead one asks is done, and nothing is answered to it. */
function mortal(controller: Controller, life: Life, timers: Timers, dice: Dice): Controller {
  const slow: Partial<Record<string | symbol, number>> = { prepare: PREPARE_MS, start: START_MS }
  const answered = (given: unknown) => (life.over ? NEVER : given)
  const failed = (error: unknown) => {
    if (life.over) return NEVER
    throw error
  }
  return new Proxy(controller, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target)
      if (typeof value !== "function") return value
      const most = slow[name]
      return (...args: unknown[]) => {
        if (life.over) return NEVER
        if (most === undefined) {
          const answer: unknown = Reflect.apply(value, target, args)
          return answer instanceof Promise ? answer.then(answered, failed) : answer
        }
        const worked = new Promise<void>((resolve) => timers.after(dice.next() * most, resolve))
        return worked.then(() => (life.over ? NEVER : Reflect.apply(value, target, args))).then(answered, failed)
      }
    },
  })
}

interface KeptLease {
  readonly boot: number
  readonly renewal: Renewal
}

export interface HostOptions {
  readonly nodeId: NodeId
  readonly cellId: CellId
  readonly capacity: Capacity
  readonly labels?: Record<string, string>
  readonly time: VirtualTime
  readonly dice: Dice
  readonly recorder: Recorder
  readonly skew: Skew
}

export class Host {
  readonly nodeId: NodeId
  cellId: CellId
  readonly #options: HostOptions
  /** Of this start of the machine. */
  #clocks: Timers
  #controller: WatchedController
  /** Kept on its disk. */
  #lease: KeptLease | null = null
  #guard: (() => void) | null = null
  #agent: Agent | null = null
  #life: Life = { over: true }
  #boot = 1
  /** The operator takes it away. */
  forgotten = false
  /** The platform's last word to this key; such a bridge is not started again. */
  verdict: string | null = null

  constructor(options: HostOptions) {
    this.nodeId = options.nodeId
    this.cellId = options.cellId
    this.#options = options
    this.#clocks = options.time.of(options.skew)
    this.#controller = this.#machine()
    const { recorder, nodeId: node, capacity } = options
    recorder.add({ kind: "capacity", node, runs: capacity.runs, offers: capacity })
  }

  get up(): boolean {
    return this.#agent !== null
  }
  get serves(): boolean {
    return !this.forgotten && this.verdict === null
  }
  get processes(): ReadonlySet<RunId> {
    return this.#controller.alive
  }
  get fake(): FakeController {
    return this.#controller
  }

  async start(): Promise<void> {
    const life: Life = { over: false }
    this.#life = life
    const { dice, nodeId, capacity, labels = {} } = this.#options
    const clocks = this.#clocks
    const timers: Timers = {
      now: clocks.now,
      boottime: clocks.boottime,
      after: (ms, callback) => clocks.after(ms, () => life.over || callback()),
    }
    const controller = mortal(this.#controller, life, timers, dice)
    const boot = this.#boot
    const kept = this.#lease
    const agent = await Agent.adopt({
      controller,
      journalDir: `/tmp/${nodeId}`,
      facts: () => ({
        ...someFacts({ capacity, labels, hostname: nodeId, boot_id: `boot-${this.#boot}` }),
        profiles: [...controller.profiles],
      }),
      bridgeVersion: "0.1.0",
      url: `https://${nodeId}.test`,
      assertion: async () => "unsigned",
      parallelStarts: 4,
      timers,
      leaseMemory: {
        last: kept?.boot === boot ? kept.renewal : null,
        keep: (renewal) => {
          if (!life.over) this.#keep({ boot, renewal })
        },
      },
      random: () => dice.next(),
      newId: () => dice.next().toString(36).slice(2),
      log: silentLog,
      welcomed: () => {},
    })
    this.#agent = agent
    void this.#serve(agent, life)
  }

  async #serve(agent: Agent, life: Life): Promise<void> {
    const verdict = await agent.run()
    if (!life.over && verdict !== null) this.verdict = verdict
  }

  /** SIGKILL to the bridge. Containers run on. */
  kill(): void {
    this.#life.over = true
    this.#agent = null
  }

  /** The power fails, and comes back with another boot id. `start` begins the bridge anew. */
  reboot(): void {
    this.kill()
    this.#controller.powerOff()
    this.#guard?.()
    this.#boot += 1
    this.#clocks = this.#options.time.of(this.#options.skew)
    this.#controller = this.#machine()
  }

  #keep(lease: KeptLease): void {
    this.#lease = lease
    this.#guard?.()
    this.#guard = this.#clocks.after(lease.renewal.killAt - this.#clocks.boottime(), () => this.#controller.guard())
  }

  #machine(): WatchedController {
    const { nodeId, recorder } = this.#options
    return new WatchedController(nodeId, recorder, { dir: null, timers: this.#clocks })
  }
}
