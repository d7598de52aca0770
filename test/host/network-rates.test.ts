import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { anId } from "../support/assignments.ts"
import { openNetworkBench } from "../support/network-bench.ts"
import type { NetworkBench } from "../support/network-bench.ts"
import * as net from "../support/networks.ts"

const A = anId("ten")
const B = anId("ten")
let bench: NetworkBench

beforeAll(async () => {
  bench = await openNetworkBench("network-rates", 1)
})
afterAll(() => bench.close())

const MB = 1_000_000
function expectRate(measured: number, asked: number) {
  expect(measured).toBeGreaterThan(asked * 0.9)
  expect(measured).toBeLessThan(asked * 1.1)
}

describe("rates", () => {
  it("hold in both directions within a tenth, and so after a change and between neighbours", async () => {
    const { run, netnsPath, at } = await bench.place(A, {
      egress: "open",
      egress_bytes_per_second: 4 * MB,
      ingress_bytes_per_second: 2 * MB,
    })
    const friend = await bench.place(A)
    expectRate(await net.throughput(netnsPath, bench.near.netns, bench.near.address, 7001), 4 * MB)
    expectRate(await net.throughput(friend.netnsPath, netnsPath, at, 7002), 2 * MB)
    expect(await bench.pool.describe(run)).toMatchObject({ egress_bytes_per_second: 4 * MB, ingress_bytes_per_second: 2 * MB })
    await bench.pool.setLimits(run, { egress: "open", egress_bytes_per_second: MB })
    expectRate(await net.throughput(netnsPath, bench.near.netns, bench.near.address, 7003), MB)
    expect(await net.throughput(friend.netnsPath, netnsPath, at, 7004)).toBeGreaterThan(10 * MB)
    expect(await bench.pool.describe(run)).toMatchObject({ egress_bytes_per_second: MB, ingress_bytes_per_second: null })
  })

  it("may be smaller than a packet a second and larger than four gigabytes", async () => {
    const { run } = await bench.place(A, { egress: "open", egress_bytes_per_second: 1, ingress_bytes_per_second: 10_000 * MB })
    expect(await bench.pool.describe(run)).toMatchObject({ egress_bytes_per_second: 1, ingress_bytes_per_second: 10_000 * MB })
  })
})

describe("what the kernel says of a container's network", () => {
  it("is its egress and the elements that name it, no other's", async () => {
    const { run, at } = await bench.place(A, { egress: ["203.0.113.0/24", "198.51.100.4/32"] })
    const open = await bench.place(B)
    const read = await bench.pool.describe(run)
    expect(read).toMatchObject({ egress: ["198.51.100.4/32", "203.0.113.0/24"], egress_bytes_per_second: null })
    expect(read?.rules).toEqual(expect.arrayContaining([`listed { ${at} . 203.0.113.0/24 }`, `listed { ${at} . 198.51.100.4 }`]))
    expect(read?.rules.every((rule) => rule.includes(at))).toBe(true)
    expect(await bench.pool.describe(open.run)).toMatchObject({ egress: "open" })
    expect(await bench.pool.describe(anId("run"))).toBeNull()
  })
})
