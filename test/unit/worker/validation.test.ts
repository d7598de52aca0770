import { describe, expect, it } from "vitest"
import { z } from "zod"
import { PageQuery } from "../../../schema/api.ts"
import { ContainerCreate } from "../../../schema/container.ts"
import { AppError } from "../../../schema/errors.ts"
import { validate } from "../../../worker/validation.ts"

function refusal(schemas: Parameters<typeof validate>[0], request: Partial<Parameters<typeof validate>[1]>): AppError {
  try {
    validate(schemas, { params: {}, query: {}, body: undefined, ...request })
  } catch (error) {
    if (error instanceof AppError) return error
    throw error
  }
  throw new Error("nothing was refused")
}
const pointers = (error: AppError) => error.errors.map(({ pointer }) => pointer)

describe("a request is checked as a whole", () => {
  it("names an unknown field by its pointer, at any depth", () => {
    const body = { image: "a", colour: "red", resources: { gpu: 1 }, network: { "a/b~c": 1 } }
    expect(pointers(refusal({ body: ContainerCreate }, { body }))).toEqual(
      expect.arrayContaining(["/colour", "/resources/gpu", "/network/a~1b~0c"]),
    )
  })

  it("names every wrong type at once, with what was expected", () => {
    const error = refusal({ body: ContainerCreate }, { body: { image: 5, args: ["a", 7], tty: "yes" } })
    expect(error.errors).toEqual([
      { pointer: "/image", message: "expected string, received number" },
      { pointer: "/args/1", message: "expected string, received number" },
      { pointer: "/tty", message: "expected boolean, received string" },
    ])
  })

  it("refuses more disk operations than the kernel can count", () => {
    const body = { image: "a", resources: { io: { read_operations_per_second: 2 ** 32 - 1 } } }
    expect(pointers(refusal({ body: ContainerCreate }, { body }))).toEqual(["/resources/io/read_operations_per_second"])
  })

  it("says that a field is missing", () => {
    expect(refusal({ body: ContainerCreate }, { body: {} }).errors).toEqual([{ pointer: "/image", message: "is needed: string" }])
  })

  it("names a wrong name in a map by the map's pointer", () => {
    const error = refusal({ body: ContainerCreate }, { body: { image: "a", env: { "1X": "y" } } })
    expect(error.errors).toEqual([{ pointer: "/env/1X", message: "must be a variable name" }])
  })

  it("loses no name without a word, not even one that means something to JavaScript", () => {
    const body = JSON.parse('{"image": "a", "env": {"__proto__": "x", "constructor": "y"}, "labels": {"__proto__": "x"}}')
    expect(refusal({ body: ContainerCreate }, { body }).errors).toEqual([
      { pointer: "/env/__proto__", message: "cannot be used as a name" },
      { pointer: "/labels/__proto__", message: "cannot be used as a name" },
    ])
  })

  it("refuses a body that is no object", () => {
    expect(refusal({ body: ContainerCreate }, { body: [] }).message).toMatch(/^The body: expected object/)
  })

  it("refuses a query parameter that the operation does not know, also when it knows none", () => {
    expect(pointers(refusal({ query: PageQuery }, { query: { limti: ["3"] } }))).toEqual(["?limti"])
    expect(pointers(refusal({}, { query: { x: ["1"] } }))).toEqual(["?x"])
  })

  it("refuses a parameter that is repeated where one is meant", () => {
    expect(pointers(refusal({ query: PageQuery }, { query: { cursor: ["a", "b"] } }))).toEqual(["?cursor"])
  })

  it("tells faults of query and body in one answer", () => {
    const error = refusal({ query: PageQuery, body: ContainerCreate }, { query: { limit: ["many"] }, body: { image: "" } })
    expect(pointers(error)).toEqual(["?limit", "/image"])
  })

  it("answers that nothing is there when the path cannot name anything", () => {
    expect(refusal({ params: z.object({ id: z.string().max(3) }) }, { params: { id: "much too long" } }).code).toBe("not_found")
  })
})
