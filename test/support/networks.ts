/** Programs inside network namespaces, and a piece of "the internet" played by a namespace of the test's own. */
import { execFile, spawn } from "node:child_process"
import type { ChildProcess } from "node:child_process"
import { closeSync } from "node:fs"
import { promisify } from "node:util"
import { NamespaceMaker } from "../../node-bridge/network/namespaces.ts"
import { waitFor } from "./wait-for.ts"

const call = promisify(execFile)

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
  (await within(netns, "busybox", "nc", "-w", "1", address, String(port))) !== null

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
  const script = `
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("0.0.0.0", ${port})); print("ready", flush=True)
while True: print(s.recv(100).decode(), flush=True)`
  const child = spawn("nsenter", [`--net=${netns}`, "python3", "-c", script], { stdio: ["ignore", "pipe", "ignore"] })
  let seen = ""
  child.stdout.on("data", (chunk: Buffer) => (seen += chunk.toString()))
  await waitFor("the collector", () => seen.includes("ready"))
  return { seen: () => seen, stop: () => ended(child) }
}

/** Sends one datagram from a source address that need not be the namespace's own. */
export const sendDatagram = (netns: string, source: string, to: string, port: number, text: string) =>
  within(
    netns,
    "python3",
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
