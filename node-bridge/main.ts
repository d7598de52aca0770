/**
 * The node-bridge as a process: configuration, lock, identity, controller, agent; signals and exit codes. With an IPC channel
 * (as the embedded platform starts it) it says `{type: "ready"}` at its first welcome, takes `{type: "drain"}` like SIGUSR2,
 * and ends when its parent does, leaving the containers running.
 */
import { constants } from "node:fs"
import { access, mkdir, readdir, readFile } from "node:fs/promises"
import { randomUUID } from "node:crypto"
import { dirname, join } from "node:path"
import { Agent } from "./agent/agent.ts"
import { enroll } from "./agent/enroll.ts"
import { bootId, hostCapacity, nodeFacts } from "./agent/facts.ts"
import { EXIT, Fault } from "./agent/fault.ts"
import { LeaseFile } from "./agent/lease-file.ts"
import { loadIdentity, publicKeyOf, saveIdentity, signAssertion } from "./agent/identity.ts"
import type { Identity } from "./agent/identity.ts"
import { identityTokens } from "./agent/identity-tokens.ts"
import type { IdentityTokens } from "./identity/sockets.ts"
import { registryLogins } from "./agent/registry-login.ts"
import { lockState } from "./agent/state-lock.ts"
import { systemTimers } from "./timers.ts"
import { HELP, readConfig } from "./config.ts"
import type { Config } from "./config.ts"
import { diskCapacity } from "./disk/space.ts"
import { createLog, explain } from "./log.ts"
import type { Log } from "./log.ts"
import type { Controller } from "./runtime/controller.ts"
import { leaseFileOf } from "./runtime/paths.ts"
import type { RegistryLogins } from "./runtime/ports.ts"

const BRIDGE_VERSION = "0.1.0"

const sleep = (ms: number): Promise<void> => new Promise((resolve) => void systemTimers.after(ms, resolve))

/**
 * Whoever asks us to end before we serve is obeyed at once; or once what was begun is taken away again; or, where containers are
 * to be stopped, once those are that an earlier bridge left.
 */
const early = new AbortController()
let begun = false
let drainFirst = false
const leaveEarly = () => (begun ? early.abort(new Fault(EXIT.ok, "Asked to end before it was ready.")) : process.exit(EXIT.ok))
const drainEarly = () => (begun ? (drainFirst = true) : process.exit(EXIT.ok))

async function main(): Promise<number> {
  const config = readConfig(process.argv.slice(2), process.env)
  if (config === "help") {
    process.stdout.write(HELP)
    return EXIT.ok
  }
  const log = createLog(config.log)
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, leaveEarly)
  process.on("SIGUSR2", drainEarly)
  process.once("disconnect", leaveEarly)

  if (config.controller === "oci" && process.getuid?.() !== 0) {
    throw new Fault(EXIT.host, "The node-bridge must run as root, or with --controller fake, which runs nothing.")
  }
  await openState(config.state)
  await lockState(config.state)
  const identity = await enrolled(config, log)
  const assertion = () => signAssertion(identity, systemTimers.now(), randomUUID())
  begun = true
  const controller = await openController(config, log, {
    registryLogins: registryLogins({ url: config.url, assertion }),
    identityTokens: identityTokens({ url: config.url, assertion }),
  })
  const capacity = await hostCapacity(await diskCapacity(config.state, config.diskOvercommit), config.capacity)
  const boot = await bootId()
  const ofHost = { hostname: config.name, labels: config.labels, capacity, bootId: boot, controller }
  let ready = false
  const agent = await Agent.adopt({
    controller,
    facts: () => nodeFacts(ofHost),
    journalDir: join(config.state, "journal"),
    leaseMemory: new LeaseFile(leaseFileOf(config.state), boot, log),
    bridgeVersion: BRIDGE_VERSION,
    url: config.url,
    assertion,
    parallelStarts: config.parallelStarts,
    timers: systemTimers,
    random: Math.random,
    newId: randomUUID,
    log,
    welcomed: () => {
      log.info(ready ? "connected again" : "ready", { node: identity.enrolled?.node_id, url: config.url })
      if (!ready) process.send?.({ type: "ready", node_id: identity.enrolled?.node_id })
      ready = true
    },
  })
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.off(signal, leaveEarly)
  process.off("SIGUSR2", drainEarly)
  process.off("disconnect", leaveEarly)
  if (drainFirst || early.signal.aborted) {
    await (drainFirst ? agent.drain(config.drainTimeoutSeconds) : agent.leave())
    return EXIT.ok
  }
  return await serve(agent, config, log)
}

/** Until a signal, the parent or the platform ends it. */
function serve(agent: Agent, config: Config, log: Log): Promise<number> {
  return new Promise((resolve, reject) => {
    let ending = false
    const end = (what: string, how: () => Promise<void>) => {
      if (ending) return
      ending = true
      log.info(what)
      how().then(() => resolve(EXIT.ok), reject)
    }
    const leave = () => end("ends, and leaves the containers running", () => agent.leave())
    const drain = () => end("stops the containers, then ends", () => agent.drain(config.drainTimeoutSeconds))
    process.on("SIGTERM", leave)
    process.on("SIGINT", leave)
    process.on("SIGUSR2", drain)
    process.on("disconnect", leave)
    process.on("message", (message) => {
      if (typeof message === "object" && message !== null && "type" in message && message.type === "drain") drain()
    })
    untilVerdict(agent).catch(reject)
  })
}

/** Throws when the platform no longer wants this node's key; returns when the bridge was told to end. */
async function untilVerdict(agent: Agent): Promise<void> {
  const verdict = await agent.run()
  switch (verdict) {
    case null:
      return
    case "forgotten":
      throw new Fault(
        EXIT.refused,
        "The platform forgot this node; its containers were stopped. Enrol it anew with a fresh --state.",
      )
    case "replaced":
      throw new Fault(
        EXIT.taken,
        "Another bridge connected with this node's key; this one ends and leaves the containers running.",
      )
  }
}

async function openState(dir: string): Promise<void> {
  try {
    await makeDirectory(dir)
    await access(dir, constants.W_OK)
    await readdir(dir)
  } catch (error) {
    const why = error instanceof Error && "code" in error ? ` (${String(error.code)})` : ""
    throw new Fault(EXIT.host, `The state directory ${dir} cannot be written${why}.`, error)
  }
}

/** With its parents. Node's own recursive mkdir never comes back from a file system that refuses, such as /proc. */
async function makeDirectory(dir: string): Promise<void> {
  try {
    await mkdir(dir, { mode: 0o700 })
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined
    if (code === "EEXIST") return
    if (code !== "ENOENT" || dirname(dir) === dir) throw error
    await makeDirectory(dirname(dir))
    await mkdir(dir, { mode: 0o700 })
  }
}

async function enrolled(config: Config, log: Log): Promise<Identity> {
  const identity = await loadIdentity(config.state)
  if (identity.enrolled) return identity
  const token = await joinToken(config)
  if (!token)
    throw new Fault(EXIT.usage, "This host is not enrolled yet: give a join token with --join-token-file or --join-token.")
  const request = { join_token: token, public_key: publicKeyOf(identity), hostname: config.name }
  const { node_id, cell_id, issuer } = await enroll({ url: config.url, request, log, random: Math.random, sleep })
  const known = { ...identity, enrolled: { node_id, cell_id, issuer } }
  await saveIdentity(config.state, known)
  log.info("enrolled", { node: node_id, cell: cell_id })
  return known
}

async function joinToken(config: Config): Promise<string | undefined> {
  if (config.joinToken) return config.joinToken
  if (!config.joinTokenFile) return undefined
  try {
    return (await readFile(config.joinTokenFile, "utf8")).trim()
  } catch (error) {
    throw new Fault(EXIT.usage, `The join token file ${config.joinTokenFile} cannot be read.`, error)
  }
}

/** What the host asks of the platform. */
interface Platform {
  readonly registryLogins: RegistryLogins
  readonly identityTokens: IdentityTokens
}

/** The real controller brings native code and needs the host's tools; the fake one must do without either. */
async function openController(config: Config, log: Log, platform: Platform): Promise<Controller> {
  switch (config.controller) {
    case "fake": {
      const { createFakeController } = await import("./runtime/fake-controller.ts")
      return await createFakeController({ dir: join(config.state, "fake"), timers: systemTimers })
    }
    case "oci": {
      const { createOciController } = await import("./runtime/oci-controller.ts")
      const registries = {
        loopbackRegistries: config.loopbackRegistries,
        ...(config.registryTimeoutSeconds !== undefined && { resolveTimeoutMs: config.registryTimeoutSeconds * 1000 }),
        ...(config.pullTimeoutSeconds !== undefined && { pullTimeoutMs: config.pullTimeoutSeconds * 1000 }),
      }
      // Of IPv6 nothing is open to close.
      const network = { closedNetworks: config.providerRanges.filter((range) => !range.includes(":")) }
      const options = {
        stateDir: config.state,
        runtime: config.runtime,
        ...(config.profiles && { profiles: config.profiles }),
        ...(config.isolationCheckSeconds && { isolationWatch: { everyMs: config.isolationCheckSeconds * 1000 } }),
        imagesDir: config.images ?? null,
        registries,
        ...platform,
        network,
        devices: {
          ...(config.cdiDirs && { cdiDirs: config.cdiDirs }),
          hooks: config.cdiHooks,
          scrub: config.deviceScrub ?? null,
          probe: config.deviceProbe ?? null,
        },
        log,
      }
      // What it lacks on this host it says in a sentence.
      return await createOciController(options, early.signal).catch((error: unknown) => {
        if (early.signal.aborted) throw early.signal.reason
        throw new Fault(EXIT.host, `This host cannot run containers. ${explain(error)}`, error)
      })
    }
  }
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    if (error instanceof Fault) {
      process.stderr.write(`${error.message}\n`)
      process.exit(error.exitCode)
    }
    console.error(error)
    process.exit(EXIT.internal)
  },
)
