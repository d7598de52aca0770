/** What a call of the API costs beside the server that answers it, and whether a long log of events slows anything down. */
import { randomUUID } from "node:crypto"
import { join } from "node:path"
import { type Client, clientOf } from "../../bin/client.ts"
import { startControlPlane } from "../../bin/control-plane.ts"
import { makeSecretsKey, makeSigningKey, signOperatorToken } from "../../bin/keys.ts"
import type { BatchAnswer, Container, Page, Event, Tenant } from "../../schema/api.ts"
import type { MintedToken } from "../../schema/tokens.ts"
import type { WebhookSecret } from "../../schema/webhooks.ts"
import { openReceiver } from "../support/receiver.ts"
import { waitFor } from "../support/wait-for.ts"
import { type Load, loadOf } from "./contenders/http-load.ts"
import { PLENTY } from "./contenders/whole-control-plane.ts"
import type { Bench, BenchContext } from "./harness/bench.ts"
import { rateRowOf, type Row, rowOf } from "./harness/report.ts"
import { median } from "./harness/stats.ts"

const TOKEN_SECONDS = 3600
/** Of each load, in each round. */
const SECONDS = 2
/** The floor may be so many times as fast as an authenticated get: 1 / 0.4. */
const FLOOR_BAR = 2.5
/** The last page of a long log may take so many times as long as the first: noise of the machine. */
const FLAT_BAR = 1.5
const EVENTS = 1_000_000
const LISTED = 1_000
const CREATES = 300
const DELIVERIES = 500
const PAGES = 20
const CONTAINER = { image: "localhost/hello", start: false, labels: { app: "bench" } }

interface Served {
  readonly url: string
  readonly operator: Client
  tenant(): Promise<{ readonly id: string; readonly token: string; readonly client: Client }>
}

export const bench: Bench = {
  what: "calls of the API beside an empty route, creates, webhooks, and a tenant with 1,000,000 events (--count N for fewer)",
  rounds: 3,
  async run(context) {
    await using cleanup = new AsyncDisposableStack()
    const served = await serve(context, cleanup)
    const rows = [...(await reads(context, served)), ...(await writes(context, served)), ...(await longLog(context, served))]
    const notes = [
      `requests are wrk's, ${SECONDS} s for each round, with 1 and with 16 connections; creates are one Node client's, one after the other and 16 at once`,
      "client, server and receiver share the machine; no container runs: what is created is not started",
    ]
    return { rows, trail: null, notes }
  },
}

async function serve({ scratch, signal, say }: BenchContext, cleanup: AsyncDisposableStack): Promise<Served> {
  say("starting the control plane")
  const signingKey = await makeSigningKey()
  const platform = await startControlPlane({
    state: join(scratch, "state"),
    port: 0,
    signingKey,
    secretsKey: makeSecretsKey(),
    issuerFile: join(scratch, "issuer"),
    main: join(import.meta.dirname, "workerd/api.ts"),
    rateLimitPerMinute: 1e9,
  })
  let stopped: Promise<void> | undefined
  const stop = () => (stopped ??= platform.stop())
  const cutOff = () => void stop().catch(() => {})
  signal.addEventListener("abort", cutOff)
  cleanup.defer(async () => {
    signal.removeEventListener("abort", cutOff)
    await stop()
  })
  const operator = clientOf(platform.url, await signOperatorToken(signingKey, platform.issuer, "bench", TOKEN_SECONDS))
  return {
    url: platform.url,
    operator,
    async tenant() {
      const { id } = await operator.post<Tenant>("/v1/admin/tenants", { name: `bench-${randomUUID()}`, quota: PLENTY })
      const { access_token: token } = await operator.post<MintedToken>(`/v1/admin/tenants/${id}/tokens`, {})
      return { id, token, client: clientOf(platform.url, token) }
    },
  }
}

async function reads({ rounds, signal, say }: BenchContext, { url, tenant }: Served): Promise<Row[]> {
  const { client, token } = await tenant()
  const [{ id } = { id: "" }] = (await client.post<BatchAnswer>("/v1/containers:batch", { count: LISTED, container: CONTAINER }))
    .items
  const { access_token: narrow } = await client.post<MintedToken>("/v1/tokens", {
    name: "narrow",
    scopes: ["containers:read"],
    authorization_details: [{ type: "container", labels: { app: "bench" } }],
  })
  const loads = {
    floor: { path: "/floor", token: null },
    get: { path: `/v1/containers/${id}`, token },
    narrow: { path: `/v1/containers/${id}`, token: narrow },
    list: { path: `/v1/containers?limit=${LISTED}`, token },
  } as const
  const seen = new Map<string, Load[]>()
  for (let round = 0; round <= rounds; round++) {
    for (const connections of [1, 16]) {
      for (const [name, load] of Object.entries(loads)) {
        signal.throwIfAborted()
        const figures = await loadOf(url + load.path, { token: load.token, connections, seconds: SECONDS, signal })
        if (round > 0) seen.set(`${name} ${connections}`, [...(seen.get(`${name} ${connections}`) ?? []), figures])
      }
    }
    say(round === 0 ? "warmed up" : `round ${round} of ${rounds}`)
  }
  const of = (name: string, what: keyof Load) => median((seen.get(name) ?? []).map((load) => load[what]))
  return [1, 16].flatMap((c) => {
    const suffix = c === 1 ? "" : `_c${c}`
    const floor = of(`floor ${c}`, "perSecond")
    const vsFloor = (name: string, what: string, bar: number | null) =>
      rateRowOf({
        id: `api.${name}_vs_floor${suffix}`, what: `${what}, ${c} at once`, unit: "per second",
        ours: of(`${name} ${c}`, "perSecond"), peer: floor, peer_name: "an empty route", bar,
      }) // prettier-ignore
    const latency = (name: string, what: string, share: "p50Ms" | "p99Ms") =>
      rowOf({ id: `api.${name}_${share === "p50Ms" ? "p50" : "p99"}${suffix}`, what: `${what}, ${share === "p50Ms" ? "p50" : "p99"}, ${c} at once`, unit: "ms", ours: of(`${name} ${c}`, share) }) // prettier-ignore
    return [
      vsFloor("get", "authenticated get", FLOOR_BAR),
      vsFloor("narrow", "get with a token that has selectors", FLOOR_BAR),
      vsFloor("list", `list of ${LISTED}`, null),
      latency("get", "authenticated get", "p50Ms"),
      latency("get", "authenticated get", "p99Ms"),
      latency("list", `list of ${LISTED}`, "p50Ms"),
      latency("list", `list of ${LISTED}`, "p99Ms"),
    ]
  })
}

async function writes({ say, signal }: BenchContext, { tenant }: Served): Promise<Row[]> {
  const { client } = await tenant()
  const create = () => client.post<Container>("/v1/containers", CONTAINER)
  await Promise.all(Array.from({ length: 50 }, create))
  say("creating")
  const singles: number[] = []
  for (let i = 0; i < CREATES; i++) {
    signal.throwIfAborted()
    const from = performance.now()
    await create()
    singles.push(performance.now() - from)
  }
  const from = performance.now()
  await Promise.all(Array.from({ length: 16 }, async () => {
    for (let i = 0; i < CREATES / 4; i++) await create()
  })) // prettier-ignore
  const manyPerSecond = (16 * (CREATES / 4)) / ((performance.now() - from) / 1000)
  say("delivering")
  const receiver = await openReceiver()
  try {
    await client.post<WebhookSecret>("/v1/webhooks", { url: receiver.url })
    const began = performance.now()
    const item = { count: DELIVERIES, container: CONTAINER }
    await client.post<BatchAnswer>("/v1/containers:batch", item)
    await waitFor(`${DELIVERIES} deliveries`, () => receiver.received.length >= DELIVERIES, 60_000)
    const perSecond = DELIVERIES / ((performance.now() - began) / 1000)
    const sorted = singles.toSorted((a, b) => a - b)
    return [
      rowOf({ id: "api.create_p50", what: "create, not started, p50", unit: "ms", ours: median(singles) }),
      rowOf({
        id: "api.create_p99",
        what: "create, not started, p99",
        unit: "ms",
        ours: sorted[Math.floor(sorted.length * 0.99)] ?? null,
      }),
      rowOf({ id: "api.create_c16", what: "creates, not started, 16 at once", unit: "per second", ours: manyPerSecond }),
      rowOf({ id: "api.webhooks", what: "webhooks to one receiver, one after the other", unit: "per second", ours: perSecond }),
    ]
  } finally {
    await receiver.close()
  }
}

const cursor = (seq: number) => String(Math.max(0, seq)).padStart(16, "0")

/** The same three things done at the beginning and at the end of a long log. */
async function longLog({ count = EVENTS, say, signal }: BenchContext, { url, operator, tenant }: Served): Promise<Row[]> {
  const { id, client, token } = await tenant()
  say(`writing ${count} events`)
  await operator.post(`/fill/${id}/${count}`)
  const page = async (after: number) => {
    signal.throwIfAborted()
    const from = performance.now()
    const { items } = await client.get<Page<Event>>(`/v1/events?limit=100&after=${cursor(after)}`)
    if (items.length === 0) throw new Error("a page of a full log was empty")
    return performance.now() - from
  }
  const follow = async (after: number) => {
    const ended = new AbortController()
    const from = performance.now()
    const answer = await fetch(`${url}/v1/events?follow=true&after=${cursor(after)}`, { headers: { authorization: `Bearer ${token}` }, signal: ended.signal }) // prettier-ignore
    await answer.body?.getReader().read()
    const ms = performance.now() - from
    ended.abort()
    return ms
  }
  const receiver = await openReceiver()
  try {
    const { webhook } = await client.post<WebhookSecret>("/v1/webhooks", { url: receiver.url })
    const replay = async (after: number) => {
      receiver.received.length = 0
      const from = performance.now()
      await client.post(`/v1/webhooks/${webhook.id}/replay`, { after: cursor(after), until: cursor(after + 100) })
      await waitFor("a replay", () => receiver.received.length >= 100, 60_000)
      return performance.now() - from
    }
    const rows: Row[] = []
    for (const [name, what, once] of [
      ["list", "a page", page],
      ["follow", "following, until the first", follow],
      ["replay", "a replay of 100", replay],
    ] as const) {
      // prettier-ignore
      say(`${name} over ${count} events`)
      const first: number[] = []
      const last: number[] = []
      const times = name === "replay" ? 3 : PAGES
      for (let i = 0; i <= times; i++) {
        const [early, late] = [await once(i * 100), await once(count - 200 - i)]
        if (i > 0) first.push(early)
        if (i > 0) last.push(late)
      }
      rows.push(rowOf({ id: `api.events_${name}_last_vs_first`, what: `${what} at the end of ${count} events and at their beginning`, unit: "ms", ours: median(last), peer: median(first), peer_name: "the beginning", bar: FLAT_BAR })) // prettier-ignore
    }
    return rows
  } finally {
    await receiver.close()
  }
}
