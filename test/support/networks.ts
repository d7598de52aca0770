/** Programs inside network namespaces, and a piece of "the internet" played by a namespace of the test's own. */
import { execFile, spawn } from "node:child_process"
import type { ChildProcess } from "node:child_process"
import { closeSync } from "node:fs"
import { promisify } from "node:util"
import { NamespaceMaker } from "../../node-bridge/network/namespaces.ts"
import { waitFor } from "./wait-for.ts"

const call = promisify(execFile)

/** Debian's own: whatever else is called python3 on the machine starts four times as slowly. */
const PYTHON = "/usr/bin/python3"

/** Runs a program in the namespace; null when it failed, and what it printed otherwise. */
export async function within(netns: string, ...argv: string[]): Promise<string | null> {
  try {
    return (await call("nsenter", [`--net=${netns}`, ...argv], { timeout: 10_000 })).stdout
  } catch {
    return null
  }
}

/** Whether a TCP connection from the namespace to the address is answered. */
export const reaches = async (netns: string, address: string, port: number) =>
  (await within(netns, "sh", "-c", 'exec busybox nc -w 1 "$0" "$1" </dev/null', address, String(port))) !== null

export interface Server {
  stop(): Promise<void>
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exit = new Promise((resolve) => child.once("exit", resolve))
  child.kill("SIGKILL")
  await exit
}

/** Answers TCP connections on all addresses of the namespace (`null`: the host's) with a greeting. */
export async function listen(netns: string | null, port: number): Promise<Server> {
  const argv = ["busybox", "nc", "-ll", "-p", String(port), "-e", "busybox", "echo", "hello"]
  const [file = "", ...args] = netns === null ? argv : ["nsenter", `--net=${netns}`, ...argv]
  const child = spawn(file, args, { stdio: "ignore" })
  const sockets = async () =>
    netns === null ? (await call("ss", ["-ltnH"])).stdout : ((await within(netns, "ss", "-ltnH")) ?? "")
  await waitFor(`port ${port}`, async () => (await sockets()).includes(`:${port} `))
  return { stop: () => ended(child) }
}

/** Everything that UDP brought to a port of the namespace so far. */
export async function collectDatagrams(netns: string, port: number): Promise<Server & { readonly seen: () => string }> {
  const source = `
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("0.0.0.0", ${port})); print("ready", flush=True)
while True: print(s.recv(100).decode(), flush=True)`
  const child = spawn("nsenter", [`--net=${netns}`, PYTHON, "-c", source], { stdio: ["ignore", "pipe", "ignore"] })
  let seen = ""
  child.stdout.on("data", (chunk: Buffer) => (seen += chunk.toString()))
  await waitFor("the collector", () => seen.includes("ready"))
  return { seen: () => seen, stop: () => ended(child) }
}

/** Sends one datagram from a source address that need not be the namespace's own. */
export const sendDatagram = (netns: string, source: string, to: string, port: number, text: string) =>
  within(
    netns,
    PYTHON,
    "-c",
    `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_IP, 19, 1)  # IP_TRANSPARENT: any source will do
s.bind(("${source}", 0)); s.sendto(b"${text}", ("${to}", ${port}))`,
  )

export interface Elsewhere {
  readonly netns: string
  readonly address: string
  close(): Promise<void>
}

/**
 * A machine out there: a namespace on a link of the host's, with no way back but to the host itself, so that only what
 * carries the host's address is answered. `network` is three numbers with dots.
 */
export async function elsewhere(link: string, network: string): Promise<Elsewhere> {
  const maker = new NamespaceMaker()
  const fd = maker.loopbackOnly()
  maker.close()
  const netns = `/proc/${process.pid}/fd/${fd}`
  await call("ip", ["link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", netns])
  await call("ip", ["addr", "add", `${network}.254/24`, "dev", link])
  await call("ip", ["link", "set", link, "up"])
  await within(netns, "ip", "addr", "add", `${network}.1/24`, "dev", "eth0")
  await within(netns, "ip", "link", "set", "eth0", "up")
  return {
    netns,
    address: `${network}.1`,
    close: async () => {
      closeSync(fd)
      await call("ip", ["link", "delete", link]).catch(() => {})
    },
  }
}

/** Runs a Python script in the namespace until it is stopped; `lines` is what it printed so far. */
export async function script(
  netns: string,
  source: string,
  ...args: string[]
): Promise<Server & { lines(): string[]; readonly pid: number }> {
  const child = spawn("nsenter", [`--net=${netns}`, PYTHON, "-u", "-c", source, ...args], {
    stdio: ["ignore", "pipe", "ignore"],
  })
  let seen = ""
  child.stdout.on("data", (chunk: Buffer) => (seen += chunk.toString()))
  return { lines: () => seen.split("\n").filter((line) => line !== ""), stop: () => ended(child), pid: child.pid ?? 0 }
}

/** Sends back what it is sent: each TCP connection's bytes, and each datagram. */
export async function echoes(netns: string, port: number): Promise<Server> {
  const server = await script(
    netns,
    `
import socket, sys, threading
port = int(sys.argv[1])
tcp = socket.socket(); tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); tcp.bind(("0.0.0.0", port)); tcp.listen(64)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp.bind(("0.0.0.0", port))
def datagrams():
    while True:
        data, sender = udp.recvfrom(2000); udp.sendto(data, sender)
def serve(one):
    try:
        while data := one.recv(65536): one.sendall(data)
    except OSError: pass
threading.Thread(target=datagrams, daemon=True).start()
print("ready")
while True: threading.Thread(target=serve, args=(tcp.accept()[0],), daemon=True).start()`,
    String(port),
  )
  await waitFor("the echo server", () => server.lines().includes("ready"))
  return server
}

/** A TCP connection that says a word ten times a second and prints each that comes back; `ended` when it was cut. */
export const conversation = (netns: string, address: string, port: number) =>
  script(
    netns,
    `
import socket, sys, time
try:
    one = socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)
    one.settimeout(2)
    while True:
        one.sendall(b"word"); one.recv(100); print("heard"); time.sleep(0.1)
except OSError as error: print("ended", error)`,
    address,
    String(port),
  )

/** Whether a datagram to an echoing port comes back. */
export const datagramReturns = async (netns: string, address: string, port: number) =>
  (await within(
    netns,
    PYTHON,
    "-c",
    `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(0.5); s.connect(("${address}", ${port})); s.send(b"x"); s.recv(10)`,
  )) !== null

export const pings = async (netns: string, address: string) =>
  (await within(netns, "busybox", "ping", "-c", "1", "-W", "1", address)) !== null

/** Sends as fast as it goes from one namespace to another; bytes per second that arrived, after the start's burst. */
export async function throughput(from: string, to: string, address: string, port: number): Promise<number> {
  const sink = await script(
    to,
    `
import socket, sys, time
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(("0.0.0.0", int(sys.argv[1]))); s.listen(1); print("ready")
one, _ = s.accept()
def read(seconds):
    begin = time.monotonic(); count = 0
    while time.monotonic() < begin + seconds: count += len(one.recv(65536))
    return count / (time.monotonic() - begin)
read(0.4)
print(read(1.2))`,
    String(port),
  )
  await waitFor("the sink", () => sink.lines().includes("ready"))
  const source = await script(
    from,
    `
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)
while True: s.send(b"x" * 65536)`,
    address,
    String(port),
  )
  try {
    return Number(await waitFor("the figure", () => sink.lines()[1]))
  } finally {
    await source.stop()
    await sink.stop()
  }
}
