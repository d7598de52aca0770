import { describe, expect, it } from "vitest"
import { ERRORS } from "../../../schema/errors.ts"
import { newApp, OPERATIONS } from "../../../worker/app.ts"
import { fieldsOf } from "../../../worker/docs/schema-fields.ts"

const app = newApp()
const env = { ISSUER: "https://berth.test", SIGNING_KEY: "" } as never
const docs = async () => app.request("/docs", {}, env)

describe("the page at /docs", () => {
  it("has every operation and an anchor for every error, where problems point", async () => {
    const text = await (await docs()).text()
    for (const { id, summary } of OPERATIONS) {
      expect(text).toContain(`id="${id}"`)
      expect(text).toContain(summary.replaceAll("'", "&#39;"))
    }
    for (const code of Object.keys(ERRORS)) expect(text).toContain(`id="problem-${code}"`)
  })

  it("has no link to an anchor that is not there", async () => {
    const text = await (await docs()).text()
    const ids = new Set([...text.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id))
    const broken = [...text.matchAll(/href="#([^"]+)"/g)].map(([, id]) => id).filter((id) => !ids.has(id))
    expect(broken).toEqual([])
  })

  it("loads nothing from anywhere and allows no script", async () => {
    const answer = await docs()
    const text = await answer.text()
    expect(answer.headers.get("content-security-policy")).toMatch(/^default-src 'none'; style-src 'sha256-/)
    expect(text).not.toMatch(/<script|<iframe|@import|src=|url\(/)
    expect([...text.matchAll(/<link[^>]*href="([^"]{5})/g)].map(([, start]) => start)).toEqual(["data:"])
  })

  it("styles itself with exactly the sheet that its policy names", async () => {
    const answer = await docs()
    const style = /<style>([\s\S]*?)<\/style>/.exec(await answer.text())?.[1] ?? ""
    const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(style)))
    expect(answer.headers.get("content-security-policy")).toContain(`'sha256-${btoa(String.fromCharCode(...hash))}'`)
  })
})

describe("the fields of a schema", () => {
  it("are flattened through references, lists and maps", () => {
    const schemas = { Part: { type: "object", properties: { size: { type: "integer", minimum: 1 } }, required: ["size"] } }
    const whole = {
      properties: {
        part: { $ref: "#/components/schemas/Part" },
        parts: { type: "array", items: { $ref: "#/components/schemas/Part" } },
        labels: { type: "object", additionalProperties: { type: "string" } },
        mode: { enum: ["a", "b"], default: "a" },
      },
      required: ["part"],
    }
    expect(fieldsOf(whole, schemas).map(({ name, type, required, limits }) => [name, type, required, limits])).toEqual([
      ["part", "object", true, ""],
      ["part.size", "integer", true, "at least 1"],
      ["parts", "list of object", false, ""],
      ["parts[].size", "integer", true, "at least 1"],
      ["labels", "map to string", false, ""],
      ["mode", "a | b", false, 'default "a"'],
    ])
  })
})
