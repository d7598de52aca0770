import { type Arbitrary, array, assert, constantFrom, integer, option, property, record, subarray } from "fast-check"
import { describe, expect, it } from "vitest"
import { isAbout, type Target } from "../../../durable/tenant/selectors.ts"
import { Resources } from "../../../schema/container.ts"
import { AuthorizationDetails, ContainerDetail, TENANT_SCOPES, type TenantScope } from "../../../schema/tokens.ts"
import { meet, narrowed, type Worth } from "../../../worker/narrowing.ts"
import { anId } from "../../support/factories.ts"

const NOW = Date.UTC(2026, 10, 24)
const OFFERED = new Set<string>(["containers:read", "containers:create", "logs:read", "tokens:mint", "webhooks:write"])
const own = (over: Partial<Worth> = {}): Worth => ({
  scopes: ["containers:read", "containers:create", "webhooks:write"],
  details: null,
  expiresAtMs: NOW + 3600_000,
  ...over,
})
const detail = (fields: object) => ContainerDetail.parse({ type: "container", ...fields })
const ask = (over: Parameters<typeof narrowed>[1] | object = {}) => ({ lifetimeSeconds: 60, ...over })

const many = (letter: string) => Array.from({ length: 5 }, (_, i) => detail({ labels: { [`${letter}${i}`]: "x".repeat(100) } }))

describe("a token made from another", () => {
  it("has what was asked for, when the other has it", () => {
    const made = narrowed(own(), ask({ scopes: ["containers:read"], details: [detail({ name_prefix: "ci-" })] }), OFFERED, NOW)
    expect(made).toEqual({
      ok: true,
      value: { scopes: ["containers:read"], details: [detail({ name_prefix: "ci-" })], expiresAtMs: NOW + 60_000 },
    })
  })

  it("never outlives the other", () => {
    const made = narrowed(own({ expiresAtMs: NOW + 5_000 }), ask({ lifetimeSeconds: 3600 }), OFFERED, NOW)
    expect(made).toMatchObject({ ok: true, value: { expiresAtMs: NOW + 5_000 } })
  })

  it("has every scope of the other when none is asked for", () => {
    expect(narrowed(own(), ask(), OFFERED, NOW)).toMatchObject({ ok: true, value: { scopes: own().scopes } })
  })

  it("keeps the other's containers whatever it asks for", () => {
    const parent = own({ details: [detail({ name_prefix: "ci-" })], scopes: ["containers:read"] })
    expect(narrowed(parent, ask(), OFFERED, NOW)).toMatchObject({ ok: true, value: { details: parent.details } })
    const asked = [detail({ labels: { app: "web" } })]
    expect(narrowed(parent, ask({ details: asked }), OFFERED, NOW)).toMatchObject({
      ok: true,
      value: { details: [detail({ name_prefix: "ci-", labels: { app: "web" } })] },
    })
  })

  const refusals: [what: string, parent: Partial<Worth>, asked: object, refusal: object][] = [
    [
      "a scope that the other lacks",
      {},
      { scopes: ["containers:read", "logs:read"] },
      { field: "scopes", index: 1, beyond: true },
    ],
    ["a scope that nothing needs yet", {}, { scopes: ["advisor:read"] }, { field: "scopes", index: 0, beyond: false }],
    [
      "a scope that is not about containers, for some containers",
      {},
      { scopes: ["webhooks:write"], details: [detail({ name_prefix: "a" })] },
      { field: "scopes", index: 0, beyond: false },
    ],
    [
      "containers of which the other has none",
      { details: [detail({ name_prefix: "a" })] },
      { scopes: ["containers:read"], details: [detail({ name_prefix: "b" })] },
      { field: "authorization_details", beyond: true },
    ],
    ["nothing", { scopes: ["webhooks:write"] }, { details: [detail({ name_prefix: "a" })] }, { field: "scopes", index: null }],
  ]
  it.each(refusals)("is refused %s", (_, parent, asked, error) => {
    expect(narrowed(own(parent), ask(asked), OFFERED, NOW)).toMatchObject({ ok: false, error })
  })

  it("is refused when its containers take more words than a header holds", () => {
    const made = narrowed(own({ details: many("a"), scopes: ["containers:read"] }), ask({ details: many("b") }), OFFERED, NOW)
    expect(made).toMatchObject({ ok: false, error: { field: "authorization_details", beyond: false } })
  })
})

/* Few values of each kind, so that two entries often agree. */
const ids = [anId("ctr"), anId("ctr"), anId("ctr")]
const digests = ["a", "b"].map((letter) => `sha256:${letter.repeat(64)}`)
const someOf = <T>(...of: readonly T[]) => subarray([...of], { minLength: 1 })
const anEntry = record(
  {
    containers: someOf(...ids),
    name_prefix: constantFrom("w", "web", "web-", "db"),
    labels: constantFrom({ app: "web" }, { app: "db" }, { env: "ci" }),
    images: someOf("r.example/a", "r.example/b", ...digests, `r.example/a@${digests[0]}`),
    max_resources: constantFrom({ cpus: 1 }, { cpus: 2, pids: 100 }, { pids: 50 }),
    accelerators: subarray(["nvidia.com/gpu", "amd.com/gpu"]),
  },
  { requiredKeys: [] },
).map(detail)
const aTarget: Arbitrary<Target> = record({
  id: constantFrom(...ids, null),
  name: constantFrom<string | null>("web-1", "web", "db", "x", null),
  digest: constantFrom(...digests, null),
  spec: record({
    image: constantFrom<string>("r.example/a:1", "r.example/b", `r.example/a@${digests[0]}`, `r.example/b:2@${digests[1]}`),
    labels: constantFrom<Record<string, string>>({}, { app: "web" }, { app: "db", env: "ci" }, { app: "web", env: "ci" }),
    resources: record({
      cpus: constantFrom(0.5, 1, 2, 3),
      pids: constantFrom(10, 50, 100, 200),
      kinds: someOf("nvidia.com/gpu", ""),
    }).map(({ cpus, pids, kinds }) =>
      Resources.parse({ cpus, pids, accelerators: kinds.filter((kind) => kind !== "").map((kind) => ({ kind })) }),
    ),
  }),
})

it("is about exactly the containers that both are about", () => {
  assert(
    property(anEntry, anEntry, aTarget, (a, b, target) => {
      const met = meet(a, b)
      const inBoth = isAbout([a], target) && isAbout([b], target)
      expect(met !== undefined && isAbout([met], target)).toBe(inBoth)
    }),
    { numRuns: 3000 },
  )
})

it("can never see more, do more or live longer, however often it is made anew", () => {
  const details = option(
    array(anEntry, { minLength: 1, maxLength: 3 }).map((list) => AuthorizationDetails.parse(list)),
    {
      nil: undefined,
    },
  )
  const scopes = option(someOf<TenantScope>("containers:read", "containers:create", "logs:read"), { nil: undefined })
  const asks = array(record({ details, scopes, lifetimeSeconds: integer({ min: 1, max: 9999 }) }), { maxLength: 4 })
  assert(
    property(asks, aTarget, (chain, target) => {
      let parent = own({ scopes: TENANT_SCOPES })
      for (const asked of chain) {
        const made = narrowed(parent, asked, OFFERED, NOW)
        if (!made.ok) return
        const child = made.value
        expect(parent.scopes).toEqual(expect.arrayContaining([...child.scopes]))
        expect(child.expiresAtMs).toBeLessThanOrEqual(parent.expiresAtMs)
        if (isAbout(child.details, target)) expect(isAbout(parent.details, target)).toBe(true)
        parent = child
      }
    }),
    { numRuns: 1000 },
  )
})
