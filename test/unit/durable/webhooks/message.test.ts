import { describe, expect, it } from "vitest"
import { concerns, messageOf, type Selector } from "../../../../durable/tenant/webhooks/message.ts"
import { Event } from "../../../../schema/api.ts"
import { TenantId, WebhookId } from "../../../../schema/ids.ts"
import { WebhookMessage } from "../../../../schema/webhooks.ts"

const SUFFIX = "01kaz3v8q0f1x8t1m5y7c2d9e4"
const WEBHOOK = WebhookId.parse(`whk_${SUFFIX}`)
const OTHER = WebhookId.parse(`whk_${SUFFIX.replace("01", "02")}`)
const TENANT = TenantId.parse(`ten_${SUFFIX}`)

const anEvent = (change: Partial<Event> = {}): Event =>
  Event.parse({
    id: `evt_${SUFFIX}`,
    type: "container.exited",
    time: "2026-11-23T18:30:01.420Z",
    container_id: `ctr_${SUFFIX}`,
    container_name: "web-1",
    run_id: `run_${SUFFIX}`,
    data: {},
    cursor: "0000000000000007",
    ...change,
  })
const anEndpoint = (change: Partial<Selector> = {}): Selector => ({ id: WEBHOOK, types: [], labels: {}, ...change })

describe("an endpoint", () => {
  it.each([
    [[], true],
    [["container.exited"], true],
    [["container.*"], true],
    [["container.running"], false],
    [["webhook.*"], false],
  ])("that selects %j hears of an exit: %s", (types, hears) => {
    expect(concerns(anEndpoint({ types }), anEvent(), null)).toBe(hears)
  })

  it("hears of containers with all of its labels only", () => {
    const endpoint = anEndpoint({ labels: { app: "web", tier: "front" } })
    expect(concerns(endpoint, anEvent(), { app: "web", tier: "front", more: "yes" })).toBe(true)
    expect(concerns(endpoint, anEvent(), { app: "web" })).toBe(false)
    expect(concerns(endpoint, anEvent(), null)).toBe(false)
  })

  it("alone hears of its own test, whatever it selects", () => {
    const test = anEvent({ type: "webhook.test", container_id: null, data: { webhook_id: WEBHOOK } })
    expect(concerns(anEndpoint({ types: ["container.exited"], labels: { app: "web" } }), test, null)).toBe(true)
    expect(concerns(anEndpoint({ id: OTHER }), test, null)).toBe(false)
  })

  it("is told of another's end, and not of its own", () => {
    const ended = anEvent({ type: "webhook.disabled", container_id: null, data: { webhook_id: OTHER } })
    expect(concerns(anEndpoint(), ended, null)).toBe(true)
    expect(concerns(anEndpoint({ id: OTHER }), ended, null)).toBe(false)
  })
})

describe("a message", () => {
  it("is thin: the log's last lines are left out of an exit", () => {
    const exit = { code: 1, signal: null, oom_killed: false, by: "process" as const, log_tail: ["password=hunter2"] }
    const message = messageOf(TENANT, anEvent({ data: { exit, attempt: 2 } }))
    expect(WebhookMessage.parse(message)).toEqual(message)
    expect(message).toMatchObject({
      type: "container.exited",
      timestamp: "2026-11-23T18:30:01.420Z",
      data: { tenant_id: TENANT, container_name: "web-1", attempt: 2, exit: { code: 1, log_tail: [] } },
    })
    expect(JSON.stringify(message)).not.toContain("hunter2")
  })
})
