import { describe, expect, it } from "vitest"
import { formatId, ID_RANDOM_BYTES, isId } from "../../schema/ids.ts"

describe("ids", () => {
  const zero = new Uint8Array(ID_RANDOM_BYTES)

  it("have the TypeID form of a UUIDv7", () => {
    // The spec's own example: prefix_01h455vb4pex5vsknk084sn02q is 01890a5d-ac96-774b-bcce-b302099a8057.
    const random = Uint8Array.from([0x77, 0x4b, 0xbc, 0xce, 0xb3, 0x02, 0x09, 0x9a, 0x80, 0x57])
    expect(formatId("run", 0x01890a5dac96, random)).toBe("run_01h455vb4pex5vsknk084sn02q")
  })

  it("sort by the time they were made", () => {
    const times = [1, 1_000, 1_700_000_000_000, 1_700_000_000_001]
    const made = times.map((time) => formatId("ctr", time, zero))
    expect(made.toSorted()).toEqual(made)
  })

  it("are told from names and from ids of another kind", () => {
    const id = formatId("ctr", 5, zero)
    expect(isId("ctr", id)).toBe(true)
    expect(isId("run", id)).toBe(false)
    expect(isId("ctr", "web-1")).toBe(false)
  })
})
