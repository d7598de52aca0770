/** The courier over a real object's SQLite, with receivers, a clock and crashes of the test's own. */
import { runInDurableObject } from "cloudflare:test"
import { afterEach, describe, expect, it, vi } from "vitest"
import { openDatabase } from "../../durable/shared/database.ts"
import { Courier, type CourierPorts } from "../../durable/tenant/webhooks/courier.ts"
import { makeKeys, signerOf } from "../../durable/tenant/webhooks/signature.ts"
import { WebhookStore } from "../../durable/tenant/webhooks/store.ts"
import { events, webhooks } from "../../schema/tables/tenant.ts"
import { anId } from "../support/factories.ts"
import { stubs } from "../support/control-plane.ts"
import { seeded } from "../support/seeded.ts"

const SEED = 20_261_124
const START = 1_800_000_000_000

interface World {
  readonly store: WebhookStore
  readonly clock: { nowMs: number }
  readonly told: string[]
  addEndpoint(url: string): Promise<ReturnType<typeof anId<"whk">>>
  addEvents(count: number): string[]
  /** A courier as a new life of the object makes it. */
  courier(fetch: Receiver, changes?: Partial<CourierPorts>): { courier: Courier; idle(): Promise<void> }
}
type Receiver = (url: string, id: string) => Promise<Response>

/** Everything that a test does with one tenant's database. */
const inTenant = (test: (world: World) => Promise<void>) =>
  runInDurableObject(stubs.tenant(anId("ten")), async (_, state) => {
    const db = openDatabase(state.storage)
    const store = new WebhookStore(db)
    const clock = { nowMs: START }
    const told: string[] = []
    const signer = await signerOf((await makeKeys()).keys)
    const tenantId = anId("ten")
    await test({
      store,
      clock,
      told,
      async addEndpoint(url) {
        const id = anId("whk")
        const row = { id, created_at_ms: START, url, types: [], labels: {}, description: "", keys: [], seq: store.lastSeq() }
        db.insert(webhooks).values(row).run()
        return id
      },
      addEvents: (count) =>
        Array.from({ length: count }, () => {
          const id = anId("evt")
          db.insert(events).values({ id, type: "container.running", time_ms: clock.nowMs, data: {} }).run()
          return id
        }),
      courier(fetch, changes = {}) {
        const under = new Set<Promise<void>>()
        const courier = new Courier({
          store,
          clock: { now: () => clock.nowMs },
          allowed: [],
          network: { fetch: (url, { headers }) => fetch(url, (headers as Record<string, string>)["webhook-id"] ?? "") },
          random: () => 0.5,
          tenantId: () => tenantId,
          labelsOf: () => null,
          signersOf: async () => [signer],
          addDisabled: (_id, reason) => void told.push(reason),
          told: () => {},
          background: (work) => {
            const done = work.finally(() => under.delete(done))
            under.add(done)
          },
          wakeAt: () => {},
          ...changes,
        })
        return {
          courier,
          async idle() {
            while (under.size > 0) await Promise.all(under)
          },
        }
      },
    })
  })

afterEach(() => {
  vi.restoreAllMocks()
})

describe("a courier", () => {
  it("brings every event to receivers that fail at random, over crashes at any attempt", async () => {
    vi.spyOn(console, "error").mockImplementation(() => {})
    await inTenant(async ({ store, clock, addEndpoint, addEvents, courier: newCourier, told }) => {
      const random = seeded(SEED)
      const urls = ["https://flaky.example/", "https://worse.example/", "https://sound.example/"]
      const arrived = new Map(urls.map((url) => [url, [] as string[]]))
      const loss: Record<string, number> = { [urls[0] ?? ""]: 0.2, [urls[1] ?? ""]: 0.5, [urls[2] ?? ""]: 0 }
      const receive: Receiver = async (url, id) => {
        const fate = random()
        if (fate < (loss[url] ?? 0) / 2) return new Response("busy", { status: 500 })
        arrived.get(url)?.push(id)
        if (fate < (loss[url] ?? 0)) throw new Error("Network connection lost.")
        return new Response(null, { status: 204 })
      }
      // An attempt that the receiver has taken and nobody has written down: the object died in between.
      const dies = new Proxy(store, {
        get(target, name) {
          const method = Reflect.get(target, name) as (...args: unknown[]) => unknown
          if (name === "transaction" && random() < 0.05) {
            return () => {
              throw new Error("the object died here")
            }
          }
          return method.bind(target)
        },
      })
      for (const url of urls) await addEndpoint(url)
      const ids = addEvents(150)
      const days = 4 * 86_400_000
      let lives = 0
      while (clock.nowMs < START + days) {
        lives += 1
        const { courier, idle } = newCourier(receive, { store: dies })
        courier.poke()
        await idle()
        const next = courier.nextWake()
        if (next === null) break
        clock.nowMs = Math.max(next, clock.nowMs + 1)
      }
      for (const [url, got] of arrived) expect([url, new Set(got).size]).toEqual([url, ids.length])
      expect(new Set(arrived.get("https://sound.example/"))).toEqual(new Set(ids))
      expect([...new Set(arrived.get("https://sound.example/"))]).toEqual(ids)
      expect(told).toEqual([])
      expect(lives).toBeGreaterThan(5)
    })
  })

  it("lets no slow receiver delay another", async () => {
    await inTenant(async ({ addEndpoint, addEvents, courier: newCourier }) => {
      const { promise: never, resolve } = Promise.withResolvers<Response>()
      const arrived: string[] = []
      await addEndpoint("https://slow.example/")
      await addEndpoint("https://quick.example/")
      const ids = addEvents(20)
      const { courier, idle } = newCourier(async (url, id) => {
        if (url.includes("slow")) return never
        arrived.push(id)
        return new Response(null, { status: 204 })
      })
      courier.poke()
      await vi.waitFor(() => expect(arrived).toEqual(ids))
      resolve(new Response(null, { status: 204 }))
      await idle()
    })
  })

  it("leaves a receiver that is down in peace, but for one attempt a minute", async () => {
    await inTenant(async ({ clock, addEndpoint, addEvents, courier: newCourier }) => {
      let attempts = 0
      await addEndpoint("https://down.example/")
      addEvents(1_000)
      const { courier, idle } = newCourier(async () => {
        attempts += 1
        return new Response(null, { status: 500 })
      })
      const until = START + 600_000
      for (let next: number | null = START; next !== null && next < until; next = courier.nextWake()) {
        clock.nowMs = Math.max(next, clock.nowMs + 1)
        courier.poke()
        await idle()
      }
      // Three to find out, one a minute, and each of those again after five seconds and after five minutes.
      expect(attempts).toBeGreaterThan(10)
      expect(attempts).toBeLessThan(40)
    })
  })

  it("disables an endpoint that answers 410, and says so", async () => {
    await inTenant(async ({ store, addEndpoint, addEvents, courier: newCourier, told }) => {
      const id = await addEndpoint("https://gone.example/")
      const [first = ""] = addEvents(3)
      const got: string[] = []
      const { courier, idle } = newCourier(async (_, event) => {
        got.push(event)
        return new Response(null, { status: 410 })
      })
      courier.poke()
      await idle()
      expect(got).toEqual([first])
      expect(store.get(id)?.disabled_reason).toBe("The receiver answered 410 Gone.")
      expect(told).toEqual(["The receiver answered 410 Gone."])
      expect(courier.nextWake()).toBeNull()
    })
  })

  it("takes a redirect for a failure and keeps the beginning of an answer", async () => {
    await inTenant(async ({ store, addEndpoint, addEvents, courier: newCourier }) => {
      const id = await addEndpoint("https://moved.example/")
      addEvents(1)
      const { courier, idle } = newCourier(
        async () => new Response("x".repeat(5_000), { status: 302, headers: { location: "http://169.254.169.254/" } }),
      )
      courier.poke()
      await idle()
      const [tried] = store.list(id, null, null, 10)
      expect(tried?.delivery.state).toBe("pending")
      const [attempt] = store.attempts(id, tried?.delivery.seq ?? 0)
      expect(attempt).toMatchObject({ status_code: 302, answer: "x".repeat(1_024) })
    })
  })

  it("sends nothing to an address that is not allowed any more", async () => {
    await inTenant(async ({ store, addEndpoint, addEvents, courier: newCourier }) => {
      const id = await addEndpoint("http://127.0.0.1:9/")
      addEvents(1)
      const { courier, idle } = newCourier(async () => {
        throw new Error("it was sent")
      })
      courier.poke()
      await idle()
      const [tried] = store.list(id, null, null, 10)
      expect(store.attempts(id, tried?.delivery.seq ?? 0)[0]?.error).toBe(
        "The URL leads to 127.0.0.1, which is not a public address.",
      )
    })
  })
})
