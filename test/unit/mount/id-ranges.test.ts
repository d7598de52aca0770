import { describe, expect, it } from "vitest"
import { FIRST_HOST_ID, IDS_PER_TENANT, MAX_TENANTS, allot, claimedByOthers } from "../../../node-bridge/mount/id-ranges.ts"
import type { Table } from "../../../node-bridge/mount/id-ranges.ts"
import { formatId } from "../../../schema/ids.ts"
import type { TenantId } from "../../../schema/ids.ts"

const aTenant = (number: number) => formatId("ten", number, new Uint8Array(10))
const aTable = (count = 0): Table => ({
  version: 1,
  first_host_id: FIRST_HOST_ID,
  ranges: Object.fromEntries(Array.from({ length: count }, (_, index) => [aTenant(index), index])),
})

const none: ReadonlySet<TenantId> = new Set()
const all = new Set(Array.from({ length: MAX_TENANTS }, (_, index) => aTenant(index)))

describe("id ranges of tenants", () => {
  it("are the same whenever a tenant asks, and no one else's", () => {
    const first = allot(aTable(), aTenant(1), none)
    const second = first && allot(first.table, aTenant(2), none)
    expect([first?.index, second?.index]).toEqual([0, 1])
    expect(second && allot(second.table, aTenant(1), none)).toEqual({ index: 0, table: second?.table })
  })

  it("end where the host's ids do", () => {
    expect(allot(aTable(MAX_TENANTS), aTenant(MAX_TENANTS), all)).toBeNull()
    expect(FIRST_HOST_ID + MAX_TENANTS * IDS_PER_TENANT).toBeLessThan(2 ** 31)
  })

  it("go to another only when all are taken, and only of a tenant of whom nothing remains", () => {
    const full = aTable(MAX_TENANTS)
    const newcomer = aTenant(MAX_TENANTS)
    expect(allot(full, newcomer, null)).toBeNull()
    const remaining = new Set([...all].filter((tenant) => tenant !== aTenant(7) && tenant !== aTenant(9)))
    const made = allot(full, newcomer, remaining)
    expect(made?.index).toBe(7)
    expect(made?.table.ranges[aTenant(7)]).toBeUndefined()
    expect(new Set(Object.values(made?.table.ranges ?? {})).size).toBe(MAX_TENANTS)
    expect(made && allot(made.table, aTenant(7), remaining)?.index).toBe(9)
    // While one is free, nobody's is taken.
    expect(allot(aTable(MAX_TENANTS - 1), newcomer, none)?.index).toBe(MAX_TENANTS - 1)
  })

  it("that others on the host claim are seen", () => {
    const others = `user:100000:65536\nroot:${FIRST_HOST_ID + 5}:10\nbroken\n`
    expect(claimedByOthers(others, FIRST_HOST_ID)).toEqual([`root:${FIRST_HOST_ID + 5}:10`])
    expect(claimedByOthers("user:100000:65536\n", FIRST_HOST_ID)).toEqual([])
  })
})
