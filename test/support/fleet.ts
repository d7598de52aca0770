/**
 * One tenant's many small containers on hosts of our own, with a history of what was asked, what the kernel says really lives,
 * and what the platform told, for `history-check.ts` to judge.
 */
import { randomUUID } from "node:crypto"
import { join } from "node:path"
import type { Container, Event, NodeView, Page, Tenant } from "../../schema/api.ts"
import { MAX_PAGE, Quota } from "../../schema/api.ts"
import { MIB } from "../../schema/container.ts"
import type { ContainerId, RunId, TenantId } from "../../schema/ids.ts"
import { historyOf } from "./fleet-history.ts"
import type { Happening, History } from "./history.ts"
import { Recorder } from "./history.ts"
import { LiveRuns } from "./live-runs.ts"
import { makeImage } from "./images.ts"
import { persist } from "./persist.ts"
import type { Wish } from "./platform.ts"
import { tenantOf } from "./platform.ts"
import type { SeveralHosts } from "./several-hosts.ts"
import { waitFor } from "./wait-for.ts"

/** Creates in flight at once. */
const CALLS = 24
const SAMPLE_MS = 200
const RESOURCES = { cpus: 0.1, memory_bytes: 8 * MIB, pids: 8, disk_bytes: 16 * MIB }
/** Answers to the stop signal at once: a shell would ignore SIGTERM as its first process does. */
const PROMPT = { signal: "SIGKILL" } as const

export type Kind = "plain" | "keep" | "once" | "start_first" | "stubborn"
/** `once`: restart no. `keep`: goes on when cut off. `stubborn`: ends only when killed, ten seconds after it was asked. */
const WISHES: Readonly<Record<Kind, Wish>> = {
  plain: { restart: { policy: "always" }, stop: PROMPT },
  keep: { restart: { policy: "always" }, stop: PROMPT, on_partition: "keep" },
  once: { restart: { policy: "no" }, stop: PROMPT },
  start_first: { restart: { policy: "always" }, stop: PROMPT, drain: "start_first" },
  stubborn: { restart: { policy: "always" } },
}

export interface Member {
  readonly index: number
  readonly id: ContainerId
  readonly kind: Kind
  removed: boolean
}

export class Fleet {
  readonly recorder = new Recorder(() => Date.now())
  readonly members: Member[] = []
  readonly live: LiveRuns
  readonly #lab: SeveralHosts
  readonly #tenantId: TenantId
  readonly #token: string
  readonly #first: number
  readonly #ids = new Map<number, ContainerId>()
  readonly #waiting = new Map<number, ((id: ContainerId) => void)[]>()

  private constructor(lab: SeveralHosts, tenantId: TenantId, token: string, most: number) {
    this.#lab = lab
    this.#tenantId = tenantId
    this.#token = token
    this.#first = process.pid * 10_000
    const nodes = new Map(lab.hosts.map(({ name, nodeId }) => [name, nodeId]))
    const runFolders = Object.fromEntries(lab.hosts.map((host) => [host.name, host.runFolder]))
    this.live = new LiveRuns({ everyMs: SAMPLE_MS, first: this.#first, count: most, runFolders }, (look, hostOf) => {
      const add = (happening: Happening) => this.recorder.entries.push({ ...happening, at_ms: look.at_ms })
      const where = (run: RunId) => {
        const node = nodes.get(hostOf(run))
        if (node === undefined) throw new Error(`${run} lives and no host has a folder of it`)
        return { run, node }
      }
      for (const run of look.ended) add({ kind: "exited", ...where(run) })
      for (const run of look.gone) add({ kind: "destroyed", ...where(run) })
      for (const { run, container } of look.began) {
        this.#whenKnown(container, (id) => {
          add({ kind: "accepted", ...where(run), container: id })
          add({ kind: "started", ...where(run), container: id, tenant: tenantId })
        })
      }
    })
  }

  /** At most `most` containers. */
  static async open(lab: SeveralHosts, most: number): Promise<Fleet> {
    makeImage(join(lab.images, "tick"), "latest", { env: ["PATH=/bin"] })
    await spreadEvenly(lab)
    const quota = Quota.parse({ containers: most })
    const { id } = await lab.operator.post<Tenant>("/v1/admin/tenants", { name: "fleet", quota })
    const tokens = `/v1/admin/tenants/${id}/tokens`
    const { access_token } = await lab.operator.post<{ access_token: string }>(tokens, { expires_in_seconds: 3600 })
    const fleet = new Fleet(lab, id, access_token, most)
    fleet.recorder.add({ kind: "quota", tenant: id, containers: most, limit: quota })
    return fleet
  }

  /** Creates that were answered. */
  get answered(): number {
    return this.#ids.size
  }

  get tenant() {
    return tenantOf(this.#lab.url, this.#token)
  }

  /** Each create is repeated under its key until it is answered. */
  async create(kinds: readonly Kind[]): Promise<readonly Member[]> {
    const wanted = kinds.map((kind, i) => ({ kind, index: this.members.length + i }))
    const members: Member[] = []
    await Promise.all(
      Array.from({ length: CALLS }, async () => {
        for (let next = wanted.shift(); next !== undefined; next = wanted.shift()) members.push(await this.#create(next))
      }),
    )
    this.members.push(...members.toSorted((a, b) => a.index - b.index))
    return members
  }

  async #create({ kind, index }: { kind: Kind; index: number }): Promise<Member> {
    const key = `tick-${index}`
    const body: Wish = {
      image: "localhost/tick",
      name: key,
      resources: RESOURCES,
      ...WISHES[kind],
      command: ["sleep", String(this.#first + index)],
    }
    const options = { body, headers: { "idempotency-key": key } }
    const answer = await persist(() => this.tenant.call("POST", "/v1/containers", options), 60_000)
    if (!answer.ok) throw new Error(`${key} was refused: ${await answer.text()}`)
    const { id } = (await answer.json()) as Container
    this.recorder.add({
      kind: "asked",
      tenant: this.#tenantId,
      key,
      container: id,
      start: true,
      restart: kind === "once" ? "no" : "always",
      remove_on_exit: false,
      asks: RESOURCES,
    })
    this.#known(index, id)
    return { index, id, kind, removed: false }
  }

  async remove(member: Member): Promise<void> {
    member.removed = true
    const headers = { "idempotency-key": randomUUID() }
    await persist(() => this.tenant.call("DELETE", `/v1/containers/${member.id}?force=true`, { headers }), 60_000)
    this.recorder.add({ kind: "acted", container: member.id, action: "remove" })
  }

  async list(query = ""): Promise<Container[]> {
    return await this.#all<Container>(`/v1/containers?limit=${MAX_PAGE}${query}`, "cursor")
  }

  /** Members of which the kernel shows a process on that host now, with its run. */
  on(host: string): { readonly member: Member; readonly run: RunId; readonly host: string }[] {
    return this.live.on(host).flatMap(({ run, container }) => {
      const member = this.members[container]
      return member ? [{ member, run, host }] : []
    })
  }

  /** Why things are not yet as wished, by the kernel and by the platform; empty when they are. */
  async amiss(): Promise<string[]> {
    const found = this.members.flatMap((member) => {
      const runs = this.live.of(member.index)
      const wrong = member.removed ? runs.length > 0 : runs.length > 1 || (runs.length === 0 && member.kind !== "once")
      return wrong
        ? [
            `${member.kind} ${member.id}: ${runs.length} processes (${runs.map(({ run, host }) => `${run} on ${host}`).join(", ")})`,
          ]
        : []
    })
    if (found.length > 0) return found
    if (this.live.remains.length > 0) return this.live.remains.map((run) => `${run} has ended and left a cgroup`)
    const told = new Map((await this.list()).map((container) => [container.id, container]))
    return this.members.flatMap((member) => {
      const [live] = this.live.of(member.index)
      const container = told.get(member.id)
      const what = `${member.kind} ${member.id} is ${container?.status} (${container?.reason?.code})`
      if (member.removed) return container === undefined ? [] : [what]
      if (live === undefined)
        return container?.status === "exited" || container?.status === "lost" ? [] : [`${what}, has no process`]
      return container?.status === "running" && container.run?.id === live.run
        ? []
        : [`${what} as ${container?.run?.id}, lives as ${live.run}`]
    })
  }

  /** Resolves with the seconds that it took until all is as wished. */
  async converged(what: string, withinSeconds: number): Promise<number> {
    const since = performance.now()
    let amiss: string[] = []
    const probe = async () => (amiss = await this.amiss()).length === 0
    await waitFor(what, probe, withinSeconds * 1000).catch(() => {
      throw new Error(`${what}: after ${withinSeconds} s ${amiss.length} amiss:\n${amiss.slice(0, 10).join("\n")}`)
    })
    return (performance.now() - since) / 1000
  }

  /** What the platform told, put beside what was seen. */
  async history(): Promise<History> {
    const { items: nodes } = await this.#lab.operator.get<Page<NodeView>>("/v1/admin/nodes")
    return historyOf(this.recorder.entries, {
      tenant: this.#tenantId,
      containers: [...(await this.list()), ...(await this.list("&status=removed"))],
      events: await this.#all<Event>(`/v1/events?limit=${MAX_PAGE}`, "after"),
      nodes,
    })
  }

  async close(): Promise<void> {
    await this.live.close()
  }

  /** Calls back once the create of that container was answered. */
  #whenKnown(index: number, then: (id: ContainerId) => void): void {
    const id = this.#ids.get(index)
    if (id !== undefined) return then(id)
    this.#waiting.set(index, [...(this.#waiting.get(index) ?? []), then])
  }

  #known(index: number, id: ContainerId): void {
    this.#ids.set(index, id)
    for (const then of this.#waiting.get(index) ?? []) then(id)
    this.#waiting.delete(index)
  }

  async #all<T>(path: string, parameter: string): Promise<T[]> {
    const items: T[] = []
    for (let cursor: string | null = ""; cursor !== null;) {
      const from: string = cursor === "" ? "" : `&${parameter}=${cursor}`
      const page = (await (await persist(() => this.tenant.call("GET", path + from), 60_000)).json()) as Page<T>
      items.push(...page.items)
      cursor = page.next_cursor
    }
    return items
  }
}

/** By default an image draws runs to where it was run before, and the weight of small containers on a large host is none. */
async function spreadEvenly({ operator, operatorToken, url }: SeveralHosts): Promise<void> {
  const { items } = await operator.get<Page<{ id: string }>>("/v1/admin/cells")
  for (const { id } of items) {
    const body = JSON.stringify({ weights: { spread: 1, bin_pack: 0, balance: 0, image: 0, failures: 0 } })
    const headers = { "content-type": "application/merge-patch+json" }
    const answer = await tenantOf(url, operatorToken).call("PATCH", `/v1/admin/cells/${id}`, { body, headers })
    if (!answer.ok) throw new Error(`the cell's weights were not taken: ${await answer.text()}`)
  }
}
