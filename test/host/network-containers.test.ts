import { createServer } from "node:net"
import type { AddressInfo } from "node:net"
import { afterAll, beforeAll, expect, test } from "vitest"
import type { Network } from "../../schema/container.ts"
import type { Assignment } from "../../schema/protocol.ts"
import { anId } from "../support/assignments.ts"
import { openHostBench } from "../support/host-bench.ts"
import type { HostBench } from "../support/host-bench.ts"
import { elsewhere, echoes } from "../support/networks.ts"
import type { Elsewhere, Server } from "../support/networks.ts"
import { waitFor } from "../support/wait-for.ts"

/** The whole way: real containers under the real runtime, on a network as their host gives it. */
const OPEN: Network = { egress: "open" }
const A = anId("ten")
const B = anId("ten")
const PORT = 8080

let bench: HostBench
let out: Elsewhere
let server: Server

beforeAll(async () => {
  out = await elsewhere("bt-cont", "203.0.113")
  server = await echoes(out.netns, PORT)
  bench = await openHostBench()
})
afterAll(async () => {
  await bench.close()
  await server.stop()
  await out.close()
})

const container = (tenant_id: Assignment["tenant_id"], hostname: string, script: string, network = OPEN): Assignment => ({
  ...bench.shell(script, { hostname, network }),
  tenant_id,
})
const SERVE = `busybox nc -ll -p ${PORT} -e busybox echo hello`
const text = async (run: Assignment) => (await bench.log(run)).map((entry) => entry.text).join("\n")
const said = (run: Assignment, word: string) => waitFor(word, async () => (await text(run)).includes(word))

test("containers of a tenant find each other by name, as programs look names up, and another tenant's do not", async () => {
  await bench.up(container(A, "db", SERVE))
  const look = `
cat /etc/resolv.conf
for name in db db.berth.internal; do busybox timeout 3 busybox nc -w 2 $name ${PORT} </dev/null || echo "no $name"; done`
  const friend = await bench.through(container(A, "web", look))
  expect(friend.text).toMatch(/^nameserver 100\.\d+\.0\.1\nhello\nhello$/)
  const stranger = await bench.through(container(B, "web", look))
  expect(stranger.text).toContain("no db\n")
  expect(stranger.text).toContain("no db.berth.internal")
  expect(stranger.text).not.toContain("hello")
})

test("from inside no address, link or packet of another's can be had", async () => {
  const { text: told } = await bench.through(
    container(
      A,
      "thief",
      `
busybox ip link set eth0 address 02:62:00:00:00:09 2>&1 && echo DONE link
busybox ip addr add 100.72.0.1/32 dev eth0 2>&1 && echo DONE address
busybox ip route add 10.0.0.0/8 dev eth0 2>&1 && echo DONE route
busybox arping -c 1 -w 1 -I eth0 100.72.0.1 2>&1 && echo DONE arp
busybox sh -c 'echo 0 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6' 2>&1 && echo DONE ipv6
busybox traceroute -I -m 1 -w 1 203.0.113.1 2>&1 | busybox grep -q '^ 1 ' && echo DONE raw
busybox nc -w 1 203.0.113.1 ${PORT} </dev/null && echo alive`,
    ),
  )
  expect(told).not.toContain("DONE")
  expect(told).toContain("alive")
})

test("from inside neither the host, the bridge nor the platform beside it is reached", async () => {
  const platform = createServer((socket) => socket.end("platform"))
  await new Promise<void>((resolve) => platform.listen(0, "0.0.0.0", resolve))
  const { port } = platform.address() as AddressInfo
  const host = "203.0.113.254"
  const { text: told } = await bench.through(
    container(A, "curious", `
gateway=$(busybox sed -n 's/nameserver //p' /etc/resolv.conf)
for address in ${host} $gateway 169.254.169.254; do
  for port in ${port} 22 80; do busybox nc -w 1 $address $port </dev/null >/dev/null 2>&1 && echo "through to $address $port"; done
done
busybox nc -w 1 203.0.113.1 ${PORT} </dev/null && echo world`), // prettier-ignore
  )
  platform.close()
  expect(told).toBe("world")
})

test("a change holds at once, for what is connected too, and another bridge keeps it with names and rates", async () => {
  const run = await bench.up(
    container(A, "live", `
busybox nc 203.0.113.1 ${PORT} </dev/zero >/dev/null 2>&1 &
connected=$!
echo begun
wait $connected
echo cut
while :; do
  if busybox nc -w 1 203.0.113.1 ${PORT} </dev/null 2>/dev/null; then echo open; else echo shut; fi
  busybox sleep 0.1
done`), // prettier-ignore
  )
  await said(run, "begun")
  const list: Network = { egress: ["198.51.100.0/24"], egress_bytes_per_second: 3_000_000 }
  await bench.controller.setNetwork(run.run_id, list)
  await said(run, "cut")
  await said(run, "shut")
  expect((await bench.controller.isolation(run.run_id)).network).toMatchObject(list)

  const old = bench.controller
  bench.controller = await bench.another()
  try {
    expect((await bench.controller.isolation(run.run_id)).network).toMatchObject(list)
    const asker = await bench.through(container(A, "asker", "busybox nslookup live.berth.internal"))
    expect(asker.text).toMatch(/Name:\s+live\.berth\.internal\nAddress(?: 1)?:\s+100\./)
    expect(await text(run)).not.toContain("open")
    await bench.controller.setNetwork(run.run_id, { egress: "none" })
    expect((await bench.controller.isolation(run.run_id)).network).toMatchObject({
      mode: "loopback",
      interfaces: ["lo"],
      egress: "none",
    })
    await bench.controller.setNetwork(run.run_id, OPEN)
    await said(run, "open")
    expect((await bench.controller.isolation(run.run_id)).verdict).toBe("holds")
  } finally {
    await old.close()
  }
})
