/**
 * The whole platform on one machine: control plane, node-bridge, an operator, a tenant and their tokens. `npm start` shows it;
 * tests and benches use it as it is.
 */
import { mkdir, rm, writeFile } from "node:fs/promises"
import { join, resolve } from "node:path"
import { setTimeout as delay } from "node:timers/promises"
import { unlessAborted } from "../node-bridge/unless-aborted.ts"
import type { Tenant } from "../schema/api.ts"
import { type BridgeProcess, startBridge } from "./bridge-process.ts"
import { type Client, clientOf } from "./client.ts"
import { type ControlPlane, startControlPlane, WEBHOOK_ALLOW } from "./control-plane.ts"
import { secretsKeyIn, signingKeyIn, signOperatorToken } from "./keys.ts"
import { lockState } from "./state-lock.ts"

const SIGNAL_MS = 50
const TOKEN_SECONDS = 90 * 86_400
const TENANT_NAME = "demo"

export interface PlatformOptions {
  readonly state: string
  readonly port: number
  readonly runtime: "crun" | "runc"
  /** Beside public addresses; see `ControlPlaneOptions`. */
  readonly webhookAllow?: string
  readonly bridgeArgs?: readonly string[]
  readonly bridgeEnv?: Readonly<Record<string, string>>
  /** Told as each part stands. */
  readonly onStep?: (step: "control plane" | "tenant" | "node", detail: string) => void
  readonly onLog?: (line: string) => void
  /** Once aborted, a start that has not come to its end takes down what stands, and rejects with the reason. */
  readonly signal?: AbortSignal
}

export interface Platform {
  readonly url: string
  readonly token: string
  readonly operatorToken: string
  readonly tenant: Client
  readonly operator: Client
  readonly bridge: BridgeProcess
  /** `drain` (the default) stops the containers too; `leave` lets them run for the next start to adopt. */
  stop(how?: "drain" | "leave"): Promise<void>
}

/** Where a state folder keeps its parts. */
export const layoutOf = (state: string) => ({
  lock: join(state, "lock"),
  signingKey: join(state, "signing-key.json"),
  secretsKey: join(state, "secrets-key"),
  issuer: join(state, "issuer"),
  controlPlane: join(state, "control-plane"),
  node: join(state, "node"),
  images: join(state, "images"),
  joinToken: join(state, "join-token"),
  env: join(state, "env"),
})

/** Starts everything and resolves when the node is ready for containers. What was running before is adopted. */
export async function startPlatform(options: PlatformOptions): Promise<Platform> {
  const state = resolve(options.state)
  const paths = layoutOf(state)
  await mkdir(state, { recursive: true, mode: 0o700 })
  const unlock = await lockState(paths.lock)
  let controlPlane: ControlPlane | undefined
  let bridge: BridgeProcess | undefined
  const stop = async (how: "drain" | "leave" = "drain") => {
    await bridge?.stop(how)
    await controlPlane?.stop()
    unlock()
  }
  try {
    const signingKey = await signingKeyIn(paths.signingKey)
    options.signal?.throwIfAborted()
    controlPlane = await startControlPlane({
      state: paths.controlPlane,
      port: options.port,
      signingKey,
      secretsKey: await secretsKeyIn(paths.secretsKey),
      issuerFile: paths.issuer,
      ...(options.webhookAllow !== undefined && { webhookAllow: options.webhookAllow }),
      onLog: options.onLog,
    })
    const { url, issuer } = controlPlane
    const webhookAllow = options.webhookAllow ?? WEBHOOK_ALLOW
    options.onStep?.("control plane", webhookAllow === "" ? url : `${url} (webhooks may lead to ${webhookAllow})`)

    const operatorToken = await signOperatorToken(signingKey, issuer, "operator", TOKEN_SECONDS)
    const operator = clientOf(url, operatorToken)
    const tenantId = await ensureTenant(operator)
    const { access_token: token } = await operator.post<{ access_token: string }>(`/v1/admin/tenants/${tenantId}/tokens`, {
      subject: "owner",
      expires_in_seconds: TOKEN_SECONDS,
    })
    await writeFile(paths.env, `BERTH_URL=${url}\nBERTH_TOKEN=${token}\nBERTH_OPERATOR_TOKEN=${operatorToken}\n`, { mode: 0o600 })
    options.onStep?.("tenant", tenantId)

    const { join_token } = await operator.post<{ join_token: string }>("/v1/admin/join-tokens", { labels: { region: "local" } })
    await writeFile(paths.joinToken, join_token, { mode: 0o600 })
    options.signal?.throwIfAborted()
    bridge = startBridge({
      state: paths.node,
      url,
      images: paths.images,
      runtime: options.runtime,
      joinTokenFile: paths.joinToken,
      // One machine, one person: a registry on loopback is theirs.
      extraArgs: ["--loopback-registries", ...(options.bridgeArgs ?? [])],
      env: options.bridgeEnv,
      onLog: options.onLog,
    })
    await (options.signal === undefined ? bridge.ready : unlessAborted(bridge.ready, options.signal))
    await rm(paths.joinToken, { force: true })
    options.onStep?.("node", String(bridge.pid))
    return { url, token, operatorToken, tenant: clientOf(url, token), operator, bridge, stop }
  } catch (error) {
    // A Ctrl-C reaches our children as well, and what comes of their end may be here before it.
    await delay(SIGNAL_MS)
    // Whoever calls it off wants nothing to run; after a fault the next start adopts what does.
    await stop(options.signal?.aborted ? "drain" : "leave").catch(() => {})
    throw options.signal?.aborted ? options.signal.reason : error
  }
}

async function ensureTenant(operator: Client): Promise<string> {
  const { items } = await operator.get<{ items: Tenant[] }>("/v1/admin/tenants")
  const known = items.find((tenant) => tenant.name === TENANT_NAME)
  return (known ?? (await operator.post<Tenant>("/v1/admin/tenants", { name: TENANT_NAME }))).id
}
