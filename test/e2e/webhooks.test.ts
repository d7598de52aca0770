/** Webhooks of the real control plane, over real sockets, with a receiver that uses the public library. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest"
import { clientOf, ProblemError } from "../../bin/client.ts"
import { type ControlPlane, startControlPlane } from "../../bin/control-plane.ts"
import { makeSecretsKey, makeSigningKey, signOperatorToken } from "../../bin/keys.ts"
import type { Container, Event, Page, Tenant } from "../../schema/api.ts"
import type { Delivery, Webhook, WebhookSecret } from "../../schema/webhooks.ts"
import { temporaryFolder } from "../support/images.ts"
import { accept, openReceiver, type Received, type Receiver, verify } from "../support/receiver.ts"
import { waitFor } from "../support/wait-for.ts"

const folder = temporaryFolder("webhooks")
const keys = { signingKey: await makeSigningKey(), secretsKey: makeSecretsKey() }
let controlPlane: ControlPlane
let tenants = 0
const receivers: Receiver[] = []

const start = () => startControlPlane({ state: `${folder}/state`, port: 0, issuerFile: `${folder}/issuer`, ...keys })

beforeAll(async () => {
  controlPlane = await start()
})
afterEach(async () => {
  await Promise.all(receivers.splice(0).map((receiver) => receiver.close()))
})
afterAll(async () => {
  await controlPlane.stop()
})

/** A tenant of its own for each test; nothing of it ever runs, for there is no node. */
async function aTenant() {
  const operator = clientOf(controlPlane.url, await signOperatorToken(keys.signingKey, controlPlane.issuer, "operator", 600))
  const { id } = await operator.post<Tenant>("/v1/admin/tenants", { name: `acme-${tenants++}` })
  const { access_token } = await operator.post<{ access_token: string }>(`/v1/admin/tenants/${id}/tokens`, {})
  const client = clientOf(controlPlane.url, access_token)
  return {
    client,
    token: access_token,
    webhook: (url: string, more: object = {}) => client.post<WebhookSecret>("/v1/webhooks", { url, ...more }),
    create: (labels: Record<string, string> = {}) =>
      client.post<Container>("/v1/containers", { image: "localhost/hello", start: false, labels }),
    eventIds: async () => (await client.get<Page<Event>>("/v1/events?limit=1000")).items.map((event) => event.id),
    deliveries: async ({ webhook }: WebhookSecret) =>
      (await client.get<Page<Delivery>>(`/v1/webhooks/${webhook.id}/deliveries`)).items,
  }
}

async function aReceiver(answer: Parameters<typeof openReceiver>[0] = accept): Promise<Receiver> {
  const receiver = await openReceiver(answer)
  receivers.push(receiver)
  return receiver
}

const idsOf = ({ received }: Receiver) => received.map(({ id }) => id)
const comes = (receiver: Receiver, count: number, seconds = 10) =>
  waitFor(`${count} messages`, async () => receiver.received.length >= count, seconds * 1000)

async function problem(call: Promise<unknown>): Promise<ProblemError> {
  const error = await call.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  if (error instanceof ProblemError) return error
  throw new Error("It was not refused.")
}

describe("a webhook", () => {
  it("is told of every event in order, signed as the public library wants it", async () => {
    const [tenant, receiver] = [await aTenant(), await aReceiver()]
    const { secret, webhook } = await tenant.webhook(`${receiver.url}/hook`)
    for (let i = 0; i < 20; i++) await tenant.create()
    await comes(receiver, 20)
    expect(idsOf(receiver)).toEqual(await tenant.eventIds())
    for (const got of receiver.received) expect(verify(secret, got)).toMatchObject({ type: "container.created" })
    expect(receiver.received[0]).toMatchObject({ path: "/hook", headers: { "content-type": "application/json" } })
    expect(await tenant.client.get<Webhook>(`/v1/webhooks/${webhook.id}`)).toMatchObject({ enabled: true, failing_since: null })
  })

  it("hears only of what it selects", async () => {
    const [tenant, receiver] = [await aTenant(), await aReceiver()]
    await tenant.webhook(receiver.url, { types: ["container.created"], labels: { app: "web" } })
    await tenant.create()
    const { id } = await tenant.create({ app: "web" })
    await tenant.client.delete(`/v1/containers/${id}`)
    await tenant.create({ app: "web" })
    await comes(receiver, 2)
    expect(receiver.received.map(({ message }) => message.type)).toEqual(["container.created", "container.created"])
    expect(receiver.received[0]?.message.data.container_id).toBe(id)
  })

  it("gets a test event, and its deliveries tell how it went", async () => {
    const tenant = await aTenant()
    const receiver = await aReceiver((_, response) => response.writeHead(202).end("thank you"))
    const made = await tenant.webhook(receiver.url, { types: ["container.lost"] })
    const { event_id } = await tenant.client.post<{ event_id: string }>(`/v1/webhooks/${made.webhook.id}/test`)
    await comes(receiver, 1)
    expect(receiver.received[0]).toMatchObject({ id: event_id, message: { type: "webhook.test" } })
    await waitFor("the delivery to be written down", async () => (await tenant.deliveries(made)).length === 1)
    const [delivery] = await tenant.deliveries(made)
    expect(delivery).toMatchObject({ event_id, state: "delivered", next_attempt_at: null })
    expect(delivery?.attempts).toMatchObject([{ status_code: 202, error: null, answer: "thank you" }])
  })

  it("is tried again with the same id, and the answer says why", async () => {
    const tenant = await aTenant()
    let failed = false
    const receiver = await aReceiver((got, response) => {
      if (failed) return accept(got, response)
      failed = true
      response.writeHead(500).end("not now")
    })
    const made = await tenant.webhook(receiver.url)
    await tenant.create()
    await comes(receiver, 2, 20)
    const [first, second] = receiver.received as [Received, Received]
    expect(second.id).toBe(first.id)
    expect(second.body).toBe(first.body)
    await waitFor("both attempts to be known", async () => (await tenant.deliveries(made))[0]?.attempts.length === 2)
    expect((await tenant.deliveries(made))[0]?.attempts).toMatchObject([
      { status_code: 500, answer: "not now" },
      { status_code: 204 },
    ])
  })

  it("does not follow a redirect", async () => {
    const [tenant, elsewhere] = [await aTenant(), await aReceiver()]
    const receiver = await aReceiver((_, response) => response.writeHead(302, { location: elsewhere.url }).end())
    const made = await tenant.webhook(receiver.url)
    await tenant.create()
    await waitFor("the attempt to be known", async () => (await tenant.deliveries(made)).length === 1)
    expect((await tenant.deliveries(made))[0]).toMatchObject({ state: "pending", attempts: [{ status_code: 302 }] })
    expect(elsewhere.received).toEqual([])
  })

  it("is disabled by 410, another hears of that, and enabling it delivers what was missed", async () => {
    const [tenant, other] = [await aTenant(), await aReceiver()]
    let gone = true
    const receiver = await aReceiver((got, response) => (gone ? response.writeHead(410).end() : accept(got, response)))
    const { webhook } = await tenant.webhook(receiver.url)
    await tenant.webhook(other.url, { types: ["webhook.*"] })
    await tenant.create()
    await comes(other, 1)
    expect(other.received[0]?.message).toMatchObject({ type: "webhook.disabled", data: { webhook_id: webhook.id } })
    await tenant.create()
    const test = await problem(tenant.client.post(`/v1/webhooks/${webhook.id}/test`))
    expect([test.status, test.code]).toEqual([409, "action_not_allowed"])
    gone = false
    expect(await tenant.client.patch(`/v1/webhooks/${webhook.id}`, { enabled: true })).toMatchObject({ enabled: true })
    await comes(receiver, 2)
    expect(receiver.received).toHaveLength(2)
  })

  it("signs with old and new keys while they overlap", async () => {
    const [tenant, receiver] = [await aTenant(), await aReceiver()]
    const made = await tenant.webhook(receiver.url)
    const path = `/v1/webhooks/${made.webhook.id}/rotate-secret`
    const rotated = await tenant.client.post<WebhookSecret>(path, { overlap_seconds: 60 })
    expect(rotated.secret).not.toBe(made.secret)
    await tenant.create()
    await comes(receiver, 1)
    const [both] = receiver.received as [Received]
    expect(verify(made.secret, both)).toBeDefined()
    expect(verify(rotated.secret, both)).toBeDefined()
    const last = await tenant.client.post<WebhookSecret>(path, { overlap_seconds: 0 })
    await tenant.create()
    await comes(receiver, 2)
    const [, alone] = receiver.received as [Received, Received]
    expect(() => verify(rotated.secret, alone)).toThrow("No matching signature")
    expect(verify(last.secret, alone)).toBeDefined()
  })

  it("replays one event, a range, and all since a cursor, with the same ids", async () => {
    const [tenant, receiver] = [await aTenant(), await aReceiver()]
    const { webhook } = await tenant.webhook(receiver.url)
    for (let i = 0; i < 4; i++) await tenant.create()
    await comes(receiver, 4)
    const ids = await tenant.eventIds()
    const replay = async (body: object, count: number) => {
      receiver.received.length = 0
      await tenant.client.post(`/v1/webhooks/${webhook.id}/replay`, body)
      await comes(receiver, count)
      return idsOf(receiver)
    }
    expect(await replay({ event_id: ids[2] }, 1)).toEqual([ids[2]])
    expect(await replay({ after: ids[0], until: ids[2] }, 2)).toEqual([ids[1], ids[2]])
    expect(await replay({ after: "0" }, 4)).toEqual(ids)
    const nothing = await problem(tenant.client.post(`/v1/webhooks/${webhook.id}/replay`, {}))
    expect([nothing.status, nothing.code]).toEqual([422, "invalid_field"])
  })

  it("keeps one that hangs from delaying another", async () => {
    const [tenant, quick] = [await aTenant(), await aReceiver()]
    const slow = await aReceiver(() => {})
    await tenant.webhook(slow.url)
    await tenant.webhook(quick.url)
    for (let i = 0; i < 10; i++) await tenant.create()
    await comes(quick, 10, 5)
    expect(slow.received).toHaveLength(1)
  })

  it("arrives over a restart of the control plane, whatever was under way", async () => {
    const tenant = await aTenant()
    const hanging: (() => void)[] = []
    const receiver = await aReceiver((got, response) => {
      if (hanging.length > 0) return accept(got, response)
      hanging.push(() => response.destroy())
    })
    await tenant.webhook(receiver.url)
    for (let i = 0; i < 5; i++) await tenant.create()
    const ids = await tenant.eventIds()
    await comes(receiver, 1)
    await controlPlane.stop()
    for (const end of hanging) end()
    controlPlane = await start()
    // Its alarm would wake the tenant's object by itself; any call does so earlier.
    await clientOf(controlPlane.url, tenant.token).get("/v1/webhooks")
    await waitFor("every event to arrive", async () => new Set(idsOf(receiver)).size === ids.length, 40_000)
    expect([...new Set(idsOf(receiver))]).toEqual(ids)
  })

  it("may lead to public addresses alone, but for what the operator allows", async () => {
    const { webhook, client } = await aTenant()
    for (const url of [
      "https://10.0.0.1/",
      "https://169.254.169.254/",
      "https://2130706434/",
      "https://[::1]/",
      "http://example.com/",
    ]) {
      const refused = await problem(webhook(url))
      expect([url, refused.status, refused.code]).toEqual([url, 422, "invalid_field"])
    }
    expect((await client.get<Page<Webhook>>("/v1/webhooks")).items).toEqual([])
  })

  it("is limited in number and made once for one key", async () => {
    const [tenant, receiver] = [await aTenant(), await aReceiver()]
    const once = () => tenant.client.post<WebhookSecret>("/v1/webhooks", { url: receiver.url }, { "idempotency-key": "one" })
    expect(await once()).toEqual(await once())
    for (let i = 1; i < 20; i++) await tenant.webhook(receiver.url)
    expect((await problem(tenant.webhook(receiver.url))).code).toBe("quota_exceeded")
  })
})
