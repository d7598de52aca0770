import { describe, expect, it } from "vitest"
import { faultsOf, isAbout, type Target } from "../../../durable/tenant/selectors.ts"
import { Resources } from "../../../schema/container.ts"
import { ContainerDetail } from "../../../schema/tokens.ts"
import { anId } from "../../support/factories.ts"

const DIGEST = `sha256:${"a".repeat(64)}`
const OTHER = `sha256:${"b".repeat(64)}`
const detail = (fields: object) => ContainerDetail.parse({ type: "container", ...fields })
const spec = (over: object = {}) => ({
  image: "registry.example/team/app:1.4",
  labels: { app: "web", env: "ci" } as Record<string, string>,
  resources: Resources.parse({ cpus: 2, memory_bytes: 1 << 28 }),
  ...over,
})
const id = anId("ctr")
const target = (over: Partial<Target> = {}): Target => ({ id, name: "web-1", spec: spec(), digest: null, ...over })
const withGpu = spec({ resources: Resources.parse({ accelerators: [{ first_available: [{ kind: "a/x" }, { kind: "b/y" }] }] }) })

describe("an entry is about a container", () => {
  const cases: [what: string, entry: object, is: boolean, target?: Partial<Target>][] = [
    ["without conditions", {}, true],
    ["by its id", { containers: [id] }, true],
    ["not by another's id", { containers: [anId("ctr")] }, false],
    ["by its name's beginning", { name_prefix: "web" }, true],
    ["not by the beginning of another's name", { name_prefix: "db" }, false],
    ["not by a name when it has none", { name_prefix: "web" }, false, { name: null }],
    ["by its labels", { labels: { env: "ci" } }, true],
    ["not by another value of a label", { labels: { env: "live" } }, false],
    ["not by a label that it lacks, be it every object's", { labels: { constructor: "x" } }, false],
    ["by its image's repository", { images: ["registry.example/team/app"] }, true],
    ["by one of several repositories", { images: ["x", "registry.example/team/app"] }, true],
    ["not by a part of its repository", { images: ["registry.example/team"] }, false],
    ["not by the repository of another registry", { images: ["team/app"] }, false],
    ["by the digest that its image was resolved to", { images: [DIGEST] }, true, { digest: DIGEST }],
    ["not by a digest before anybody knows its own", { images: [DIGEST] }, false],
    ["by the digest that it names", { images: [DIGEST] }, true, { spec: spec({ image: `app:1@${DIGEST}` }) }],
    ["by repository and digest", { images: [`app@${DIGEST}`] }, true, { spec: spec({ image: "app" }), digest: DIGEST }],
    [
      "not by repository and another digest",
      { images: [`app@${OTHER}`] },
      false,
      { spec: spec({ image: "app" }), digest: DIGEST },
    ],
    ["of a registry with a port", { images: ["r:5000/app"] }, true, { spec: spec({ image: "r:5000/app" }) }],
    ["by what it asks for at most", { max_resources: { cpus: 2 } }, true],
    ["not when it asks for more", { max_resources: { cpus: 1.5, memory_bytes: 1 << 30 } }, false],
    ["that asks for no accelerators, when there may be none", { accelerators: [] }, true],
    ["by the kinds of its accelerators", { accelerators: ["a/x", "b/y"] }, true, { spec: withGpu }],
    ["not when it would take another kind as well", { accelerators: ["a/x"] }, false, { spec: withGpu }],
    ["that is gone, by its name", { name_prefix: "web" }, true, { spec: null }],
    ["not one that is gone, by what is known no longer", { labels: { env: "ci" } }, false, { spec: null }],
    ["not when one of two conditions fails", { name_prefix: "web", labels: { env: "live" } }, false],
  ]
  it.each(cases)("%s", (_, entry, is, over) => {
    expect(isAbout([detail(entry)], target(over))).toBe(is)
  })
})

it("a token is about what any of its entries is about, and without entries about everything", () => {
  expect(isAbout([detail({ name_prefix: "db" }), detail({ name_prefix: "web" })], target())).toBe(true)
  expect(isAbout(null, target())).toBe(true)
})

const pointers = (entry: object, of = spec()) => faultsOf([detail(entry)], null, of).map(({ pointer }) => pointer)

describe("what a token may create", () => {
  it("is anything without entries", () => {
    expect(faultsOf(null, null, spec())).toEqual([])
  })
  it("is what one entry is about", () => {
    expect(faultsOf([detail({ name_prefix: "db" }), detail({ labels: { app: "web" } })], "web-1", spec())).toEqual([])
  })
  it("is refused with every field at fault, by the entry that comes nearest", () => {
    const entries = [
      detail({ name_prefix: "db-", labels: { app: "db" }, images: ["other"] }),
      detail({ name_prefix: "db-", max_resources: { cpus: 1 } }),
    ]
    expect(faultsOf(entries, null, spec())).toEqual([
      { pointer: "/name", message: "must begin with db- for your token" },
      { pointer: "/resources/cpus", message: "must be at most 1 for your token" },
    ])
  })
  it("names labels, images and accelerators as well", () => {
    expect(pointers({ labels: { "a/b": "1" } })).toEqual(["/labels/a~1b"])
    expect(pointers({ images: ["other"] })).toEqual(["/image"])
    expect(pointers({ accelerators: [] }, withGpu)).toEqual(["/resources/accelerators/0", "/resources/accelerators/0"])
  })
  it("is nothing when it is about containers by their ids", () => {
    expect(faultsOf([detail({ containers: [id] })], "web-1", spec())).toHaveLength(1)
  })
})

it("refuses a label that JavaScript would lose", () => {
  const entry = JSON.parse('{"type":"container","labels":{"__proto__":"x","app":"web"}}')
  expect(ContainerDetail.safeParse(entry).success).toBe(false)
})
