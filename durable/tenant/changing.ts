/** The tenant's calls that change its containers. Each is one transaction; what follows from it is carried by `Saga`. */
import type { BatchAnswer, Container } from "../../schema/api.ts"
import { AppError } from "../../schema/errors.ts"
import type { ContainerBatch, ContainerCreate, ContainerUpdate } from "../../schema/container.ts"
import type { ContainerId } from "../../schema/ids.ts"
import type { Clock, Ids, Peers } from "../shared/ports.ts"
import type { Answer, Call, ContainerAction, TenantConfig } from "../shared/rpc.ts"
import { decideAction, type Refusal } from "./actions.ts"
import { refusedAdmission } from "./admission.ts"
import { refuseBeyond, sees } from "./caller.ts"
import { containerCreated } from "./events.ts"
import { latestRun } from "./group.ts"
import { held } from "./hold.ts"
import type { Ledger } from "./ledger.ts"
import { updateNetwork } from "./network-update.ts"
import type { Once, Work } from "./once.ts"
import { newContainer } from "./plan.ts"
import { refusedByPolicy } from "./policy.ts"
import type { Reading } from "./reading.ts"
import type { RegistryCredentials } from "./registry-credentials.ts"
import type { Saga } from "./saga.ts"
import type { Answers, TenantStore } from "./store.ts"
import { overQuota, useOf } from "./use.ts"
import type { Watchers } from "./watchers.ts"

const MINUTE_MS = 60_000

export interface ChangingPorts {
  readonly store: TenantStore
  readonly ledger: Ledger
  readonly saga: Saga
  readonly once: Once
  readonly reading: Reading
  readonly watchers: Watchers
  readonly peers: Peers
  readonly clock: Clock
  readonly ids: Ids
  readonly registryCredentials: Pick<RegistryCredentials, "refused">
  settings(): TenantConfig
}

export class Changing {
  readonly #ports: ChangingPorts

  constructor(ports: ChangingPorts) {
    this.#ports = ports
  }

  async create(call: Call, create: ContainerCreate, holdMs: number): Promise<Answer<Container>> {
    const { ledger, saga, reading, watchers } = this.#ports
    this.#ports.settings()
    const answer = await this.#once(call, {
      status: 201,
      target: create.name ?? null,
      again: (id) => reading.render(id),
      run: async (remember) => {
        refuseBeyond(call, create)
        const group = ledger.batch(() => {
          this.admit(create, create.name === undefined ? [] : [create.name], 1)
          const draft = this.#draft(create, create.name)
          remember(draft.container.id)
          return ledger.create({ group: draft, events: [containerCreated(draft.container)] })
        })
        const run = latestRun(group)
        // The answer tells where the container stands with the cell. Placement began with the commit.
        if (run && holdMs === 0) await saga.called(run.id)
        return reading.render(group.container.id)
      },
    })
    return held(answer, holdMs, watchers, (id) => reading.viewOf(id))
  }

  async createBatch(call: Call, { count, container: create }: ContainerBatch): Promise<Answer<BatchAnswer>> {
    const { ledger } = this.#ports
    this.#ports.settings()
    const { name } = create
    const names = Array.from({ length: count }, (_, i) => (name === undefined ? undefined : `${name}-${i + 1}`))
    return this.#once(call, {
      status: 201,
      target: name ?? null,
      again: (id) => ({ items: [itemOf(this.#ports.reading.render(id))] }),
      run: async (remember) =>
        ledger.batch(() => {
          refuseBeyond(call, create, "/container")
          this.admit(create, names.filter((one) => one !== undefined), count) // prettier-ignore
          const drafts = names.map((one) => this.#draft(create, one))
          const groups = ledger.createAll(drafts.map((group) => ({ group, events: [containerCreated(group.container)] })))
          const answer = { items: groups.map(({ container }) => itemOf(container)) }
          const [first] = groups
          if (first) remember(first.container.id, answer)
          return answer
        }),
    })
  }

  async update(call: Call, ref: string, update: ContainerUpdate): Promise<Answer<Container>> {
    const { ledger, reading } = this.#ports
    return this.#once(call, {
      status: 200,
      target: ref,
      again: (id) => reading.render(id),
      run: async (remember) => {
        const id = await this.#ready(call, ref)
        ledger.batch(() => {
          const { network } = update
          remember(id)
          if (network === undefined) return
          ledger.change(id, (group) => {
            const updated = updateNetwork(group, network)
            if (!updated.ok) throw refused(updated.error)
            return updated.value
          })
        })
        return reading.render(id)
      },
    })
  }

  async act(call: Call, ref: string, action: ContainerAction, holdMs: number): Promise<Answer<Container>> {
    const { ledger, peers, reading, watchers } = this.#ports
    // A repeat is known by its key alone: by now the name may be gone, or belong to another container.
    const answer = await this.#once(call, {
      status: 200,
      target: ref,
      again: (id) => reading.render(id),
      run: async (remember) => {
        const id = await this.#ready(call, ref)
        const signal = ledger.batch(() => this.#apply(id, action, remember))
        if (signal !== undefined) {
          await peers.node(signal.node).command(signal.run, { kind: "signal", signal: signal.name })
          remember(id)
        }
        return reading.render(id)
      },
    })
    return held(answer, holdMs, watchers, (id) => reading.viewOf(id))
  }

  /** @throws AppError when `count` containers as `create` describes must not be made. */
  admit(create: ContainerCreate, names: readonly string[], count: number): void {
    const { store, registryCredentials, settings, clock } = this.#ports
    refuse(registryCredentials.refused(create))
    const created = store.createdSince(clock.now() - MINUTE_MS)
    const standing = { used: store.used(), kept: store.kept(), created, taken: store.takenOf(names) }
    refuse(refusedAdmission(create, count, standing, settings()))
  }

  #draft({ start, name: _name, ...spec }: ContainerCreate, name: string | undefined) {
    const { ids, clock } = this.#ports
    const desired = start ? "running" : "stopped"
    return newContainer({ id: ids.make("ctr"), name: name ?? null, spec, desired }, clock.now())
  }

  /** Callers of one subject share their keys, so a narrower token may meet another's answer: it is shown what it may see. */
  async #once<T extends Answers>(call: Call, work: Work<T>): Promise<Answer<T>> {
    const answer = await this.#ports.once.answer(call, work)
    if (!answer.replayed || call.details === null) return answer
    const shown: readonly { readonly id: ContainerId }[] = "items" in answer.body ? answer.body.items : [answer.body]
    for (const { id } of shown) {
      const row = this.#ports.store.container(id)
      if (!row || !sees(call, row)) throw new AppError("not_found", `You have no container ${id}.`)
    }
    return answer
  }

  /** The container, once nothing of it is on its way to a node for the first time. */
  async #ready(call: Call, ref: string): Promise<ContainerId> {
    const { id } = this.#ports.reading.resolve(call, ref)
    await this.#ports.saga.handedOver(this.#ports.reading.group(id).runs)
    return id
  }

  #apply(id: ContainerId, action: ContainerAction, remember: (id: ContainerId) => void) {
    const { store, ledger, reading, clock, settings } = this.#ports
    const before = reading.group(id)
    const decided = decideAction(before, action, clock.now())
    if (!decided.ok) throw refused(decided.error)
    const decision = decided.value
    if (decision.kind === "signal") {
      const run = latestRun(before)
      if (!run || run.node_id === null) throw new AppError("action_not_allowed", "The container has no running process.")
      return { node: run.node_id, run: run.id, name: decision.signal }
    }
    if (decision.begins) {
      const { spec } = before.container
      const { policy, quota } = settings()
      refuse(refusedByPolicy(spec, policy) ?? overQuota(store.used(), quota, useOf(spec.resources)))
    }
    remember(id)
    ledger.change(id, () => ({ group: decision.group, events: [] }))
    return undefined
  }
}

const itemOf = ({ id, name, status }: BatchAnswer["items"][number]) => ({ id, name, status })
const refused = ({ code, detail, errors = [] }: Refusal) => new AppError(code, detail, { errors })
const refuse = (refusal: Refusal | undefined): void => {
  if (refusal) throw refused(refusal)
}
