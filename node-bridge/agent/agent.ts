/**
 * The agent: what this node has to run, made true through the controller and told to the platform. It joins journal, runs,
 * reports, lease, streams and connection, and decides nothing that one of them could.
 */
import type { NodeCondition, NodeFacts } from "../../schema/node.ts"
import { LEASE_MARGIN_SECONDS, PROTOCOL_VERSION } from "../../schema/protocol.ts"
import type { Condition, NodeMessage, Notice, Reason } from "../../schema/protocol.ts"
import { withFound } from "../condition/condition.ts"
import { ControllerError } from "../runtime/controller.ts"
import type { Controller } from "../runtime/controller.ts"
import type { Log } from "../log.ts"
import { explain } from "../log.ts"
import { Assignments } from "./assignments.ts"
import type { Found } from "./assignments.ts"
import { Connection } from "./connection.ts"
import type { Verdict } from "./connection.ts"
import { Journal } from "./journal.ts"
import { endsWithLease, Lease } from "./lease.ts"
import type { LeaseMemory } from "./lease.ts"
import { endOf } from "./notices.ts"
import { Reporter } from "./reporter.ts"
import { RuntimeHealth } from "./runtime-health.ts"
import { semaphore } from "./semaphore.ts"
import type { CommandMessage, SessionHandlers } from "./session.ts"
import { Streams } from "./streams.ts"
import type { Timers } from "../timers.ts"

/** Images, logs and pools are looked after this often. */
const MAINTAIN_MS = 30_000
/** Of the lease's margin, what remains for SIGKILL and cleaning up after the stops. */
const STOP_RESERVE_SECONDS = 5
/** After everything has stopped: how long the platform may take to acknowledge the last reports. */
const LAST_REPORTS_MS = 5_000

const SHUTTING_DOWN: NodeCondition = { kind: "shutting_down", message: "The host is shutting down." }

export interface AgentOptions {
  readonly controller: Controller
  readonly journalDir: string
  /** What the bridge before this one knew of the lease. */
  readonly leaseMemory: LeaseMemory
  /** As they are now: devices come and go. */
  readonly facts: () => NodeFacts
  readonly bridgeVersion: string
  readonly url: string
  readonly assertion: () => Promise<string>
  /** Starts at once: more than the processors can carry makes all of them slower. */
  readonly parallelStarts: number
  readonly timers: Timers
  readonly random: () => number
  /** Never the same twice, over restarts too. */
  readonly newId: () => string
  readonly log: Log
  /** The platform took this node in; called for every session. */
  readonly welcomed: () => void
}

export class Agent {
  readonly #options: AgentOptions
  readonly #reporter: Reporter
  readonly #assignments: Assignments
  readonly #lease: Lease
  readonly #streams: Streams
  readonly #connection: Connection
  /** The bridge's own end. */
  #draining = false
  readonly #health: RuntimeHealth
  #deaf: (() => void) | null = null
  #marginSeconds: number = LEASE_MARGIN_SECONDS
  #cancelMaintenance: (() => void) | null = null

  private constructor(options: AgentOptions, journal: Journal, found: Found) {
    const { controller, timers, log, parallelStarts, url, assertion, random } = options
    this.#options = options
    this.#reporter = new Reporter(timers)
    const tell = () => this.#send({ type: "condition", condition: this.#condition() })
    this.#health = new RuntimeHealth({ probe: () => controller.probe(), timers, log, changed: tell })
    const starts = semaphore(parallelStarts)
    const deps = {
      controller,
      journal,
      starts,
      timers,
      log,
      bootId: options.facts().boot_id,
      reporter: this.#reporter,
      health: this.#health,
      heed: () => this.#lease.check(),
      onComplete: () => this.#journalWhole(journal, found),
    }
    this.#assignments = new Assignments(deps, found)
    this.#lease = new Lease(timers, options.leaseMemory, () => this.#leaseLost())
    this.#streams = new Streams({
      controller,
      log,
      tenantOf: (runId) => this.#assignments.get(runId)?.record.assignment.tenant_id,
      send: (message) => this.#send(message),
      sendBytes: (frame) => this.#connection.session?.sendBytes(frame),
    })
    const sessionEnded = () => this.#sessionEnded()
    this.#connection = new Connection({ url, assertion, timers, random, log, handlers: this.#handlers(), sessionEnded })
  }

  /** Takes up what an earlier bridge left: runs go on, ended ones are reported, nothing is condemned yet. */
  static async adopt(options: AgentOptions): Promise<Agent> {
    const { journal, loaded } = await Journal.open(options.journalDir, options.facts().boot_id)
    for (const run of loaded.unreadable) options.log.error("the journal of a run cannot be read", { run })
    const onHost = new Set(await options.controller.list())
    const agent = new Agent(options, journal, { onHost, unreadable: new Set(loaded.unreadable), incomplete: loaded.incomplete })
    agent.#assignments.adopt(loaded.records)
    agent.#deaf = options.controller.listen({
      notice: (notice) => agent.#noticed(notice),
      facts: () => agent.#send({ type: "facts", facts: options.facts() }),
      condition: () => agent.#send({ type: "condition", condition: agent.#condition() }),
    })
    agent.#maintain()
    if (loaded.records.length + onHost.size > 0) {
      options.log.info("took up what was here", { journal: loaded.records.length, on_host: onHost.size })
    }
    return agent
  }

  /** Serves the platform until `leave`, `drain`, or the platform's verdict. */
  async run(): Promise<Verdict | null> {
    const verdict = await this.#connection.run()
    if (verdict === "forgotten") {
      const reason = { code: "node_forgotten", message: "The container was stopped because its host left the platform." }
      this.#stopAll("platform", reason, this.#stopLimit())
      await this.#assignments.settled()
    }
    return verdict
  }

  /** Ends the session and leaves every container as it is: the next bridge takes them up. */
  async leave(): Promise<void> {
    this.#cancelMaintenance?.()
    this.#deaf?.()
    this.#lease.close()
    this.#health.close()
    this.#streams.closeAll()
    this.#connection.close()
    await this.#assignments.close()
    await this.#options.controller.close()
  }

  /** Stops every run, for at most so long each, tells the platform, and leaves. */
  async drain(timeoutSeconds: number): Promise<void> {
    const reason = { code: "host_shutdown", message: "The container was stopped because its host is shutting down." }
    this.#draining = true
    this.#send({ type: "condition", condition: this.#condition() })
    this.#stopAll("host", reason, timeoutSeconds)
    await this.#assignments.settled()
    if (this.#connection.session) await this.#within(LAST_REPORTS_MS, this.#reporter.idle())
    await this.leave()
  }

  #stopAll(by: "platform" | "host", reason: Reason, limitSeconds: number): void {
    for (const manager of this.#assignments.all) manager.stop(by, reason, limitSeconds)
  }

  #condition(): Condition {
    const found = [this.#draining ? SHUTTING_DOWN : null, this.#health.condition].filter((one) => one !== null)
    return withFound(this.#options.controller.condition, found)
  }

  /** Told first: the platform shall read why before it reads that the run has ended. */
  #noticed(notice: Omit<Notice, "id">): void {
    const manager = this.#assignments.get(notice.run_id)
    if (!manager || manager.dropped) return
    const { tenant_id, spec } = manager.record.assignment
    this.#reporter.notice({ ...notice, id: this.#options.newId() }, tenant_id)
    const end = endOf(notice, spec)
    if (end) manager.stop("host", end.reason, end.limitSeconds)
  }

  #stopLimit(): number {
    return Math.max(this.#marginSeconds - STOP_RESERVE_SECONDS, 0)
  }

  #leaseLost(): void {
    this.#options.log.error("the platform was not heard of for a whole lease: stops what it may no longer run", {})
    const message = "The container was stopped because its host lost touch with the platform."
    const reason = { code: "lease_lost", message }
    for (const manager of this.#assignments.all)
      if (endsWithLease(manager.record)) manager.stop("platform", reason, this.#stopLimit())
    // What the platform said before counts no more: it may have been on its way for as long as this process was stopped.
    this.#connection.session?.abandon()
  }

  /** Until this is on disk, the next bridge takes every run that it does not know for one that may have run. */
  #journalWhole(journal: Journal, found: Found): void {
    if (!found.incomplete) return
    journal.whole().catch((error: unknown) => this.#options.log.error("could not mark the journal", { error: explain(error) }))
  }

  #send(message: NodeMessage): void {
    this.#connection.session?.send(message)
  }

  #sessionEnded(): void {
    this.#reporter.detach()
    this.#streams.closeAll()
  }

  #handlers(): SessionHandlers {
    return {
      hello: () => ({
        type: "hello",
        protocol: PROTOCOL_VERSION,
        bridge_version: this.#options.bridgeVersion,
        facts: this.#options.facts(),
        condition: this.#condition(),
      }),
      welcome: (welcome) => {
        this.#marginSeconds = welcome.lease_margin_seconds
        this.#lease.configure(welcome.lease_seconds, welcome.lease_margin_seconds)
        this.#options.welcomed()
      },
      complete: (assignments) => {
        this.#assignments.complete(assignments)
        this.#reporter.attach((report) => this.#send(report))
      },
      expect: () => this.#options.controller.expect(),
      increment: (upsert, remove) => this.#assignments.increment(upsert, remove),
      acknowledged: (seq) => this.#reporter.acknowledged(seq),
      command: (message) => void this.#command(message),
      stream: (message) => this.#streams.received(message),
      alive: (sentAt) => this.#lease.renew(sentAt),
      heed: () => this.#lease.check(),
    }
  }

  async #command({ id, run_id, command }: CommandMessage): Promise<void> {
    const answer = (error: Reason | null, data: unknown) => this.#send({ type: "command_result", id, error, data })
    const manager = this.#assignments.get(run_id)
    if (!manager) return answer({ code: "no_such_run", message: "The run is not on this node." }, null)
    try {
      switch (command.kind) {
        case "signal":
          await manager.signal(command.signal)
          return answer(null, null)
        case "isolation":
          return answer(null, await this.#options.controller.isolation(run_id))
      }
    } catch (error) {
      if (error instanceof ControllerError) return answer(error.reason, null)
      this.#options.log.warn("a command failed", { run: run_id, command: command.kind, error: explain(error) })
      answer({ code: "node_fault", message: "The node failed to carry out the command." }, null)
    }
  }

  #maintain(): void {
    const { controller, timers } = this.#options
    this.#cancelMaintenance = timers.after(MAINTAIN_MS, () => {
      this.#assignments.writeAgain()
      void this.#assignments
        .sweep()
        .then(() => controller.maintain(this.#assignments.liveImages()))
        .finally(() => this.#cancelMaintenance && this.#maintain())
    })
  }

  async #within(ms: number, work: Promise<void>): Promise<void> {
    const late = Promise.withResolvers<void>()
    const cancel = this.#options.timers.after(ms, late.resolve)
    await Promise.race([work, late.promise])
    cancel()
  }
}
