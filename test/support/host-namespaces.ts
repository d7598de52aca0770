/**
 * Hosts of our own on one machine: each a network namespace, with a mount namespace that shows its own links under `/sys`, and
 * a cable to the namespace where the control plane listens. The bridge speaks in clear to loopback alone, so the control
 * plane's port is on each host's own loopback, and what goes there is led over the cable by address translation.
 *
 * A host is a process that sleeps: it ends with whoever made it, and the kernel takes its links and mounts down. The filter
 * table in our own namespace is all that can be left, so it is named by our process.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import { mkdirSync } from "node:fs"
import { join } from "node:path"
import { createInterface } from "node:readline"

export interface HostNamespace {
  readonly pid: number
  /** The command line that runs another one on this host. */
  readonly on: readonly string[]
  /** No packet passes in either direction, and nobody is told: what a cable that was pulled looks like from far away. */
  cut(): void
  heal(): void
  close(): Promise<void>
}

export interface HostNamespaceOptions {
  /** A folder of its own, for what must be somewhere. */
  readonly folder: string
  /** Of the hosts of one process; 0 to 7. */
  readonly index: number
  /** Of the control plane, on our loopback. */
  readonly port: number
  /** Mounts a file system of this size there, which only this host sees. */
  readonly small?: { readonly folder: string; readonly bytes: number }
}

/** RFC 2544 keeps 198.18.0.0/15 for tests of network devices: a /30 for each cable. */
const networkOf = (index: number) => `198.18.${process.pid % 256}.${index * 4}`
const addressOf = (index: number, end: 1 | 2) => networkOf(index).replace(/\d+$/, String(index * 4 + end))
const linkOf = (index: number) => `ch${process.pid}x${index}`
const tableOf = (index: number) => `chaos_${process.pid}_${index}`

const nft = (rules: string) => void execFileSync("nft", ["-f", "-"], { input: rules })
const run = (file: string, ...args: string[]) => void execFileSync(file, args, { stdio: ["ignore", "ignore", "pipe"] })

/** `$1`: where the cgroups are kept for a moment, for they are mounted below `/sys`. `$2`, `$3`: a small file system's file and place. */
const HOLD = `
set -e
mount --move /sys/fs/cgroup "$1"
umount -l /sys
mount -t sysfs sysfs /sys
mount --move "$1" /sys/fs/cgroup
ip link set lo up
[ -z "$2" ] || mount -o loop "$2" "$3"
echo ready
exec sleep infinity
`

export async function openHost(options: HostNamespaceOptions): Promise<HostNamespace> {
  const { index, port, folder } = options
  const place = join(folder, "cgroups")
  mkdirSync(place, { recursive: true })
  const small = options.small ? [imageOf(join(folder, "disk"), options.small.bytes), options.small.folder] : ["", ""]
  const holder = spawn(
    "setpriv",
    ["--pdeathsig", "KILL", "unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", HOLD, "host", place, ...small],
    { stdio: ["ignore", "pipe", "inherit"] },
  )
  await ready(holder)
  const pid = holder.pid ?? 0
  const on = ["nsenter", `--net=/proc/${pid}/ns/net`, `--mount=/proc/${pid}/ns/mnt`]
  const link = linkOf(index)
  const table = tableOf(index)
  const close = async () => {
    nft(`table inet ${table}\ndelete table inet ${table}\n`)
    if (holder.exitCode !== null || holder.signalCode !== null) return
    const ended = new Promise((resolve) => holder.once("exit", resolve))
    holder.kill("SIGKILL")
    await ended
  }
  try {
    run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", String(pid))
    run("ip", "addr", "add", `${addressOf(index, 1)}/30`, "dev", link)
    run("ip", "link", "set", link, "up")
    run("sysctl", "-qw", `net.ipv4.conf.${link}.route_localnet=1`)
    const inside = (...words: string[]) => run("nsenter", ...on.slice(1), ...words)
    inside("ip", "addr", "add", `${addressOf(index, 2)}/30`, "dev", "eth0")
    inside("ip", "link", "set", "eth0", "up")
    inside("sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1")
    execFileSync("nsenter", [...on.slice(1), "nft", "-f", "-"], {
      input: `table ip cable {
  chain out { type nat hook output priority -100; ip daddr 127.0.0.1 tcp dport ${port} dnat to ${addressOf(index, 1)}:${port}; }
  chain from { type nat hook postrouting priority 100; oifname "eth0" masquerade; }
}`,
    })
    nft(`table inet ${table} {
  set cut { type ifname; }
  chain into { type filter hook prerouting priority raw; iifname @cut drop; }
  chain out { type filter hook output priority raw; oifname @cut drop; }
  chain plane { type nat hook prerouting priority dstnat; iifname "${link}" tcp dport ${port} dnat ip to 127.0.0.1:${port}; }
}`)
  } catch (error) {
    await close().catch(() => {})
    throw error
  }
  return {
    pid,
    on,
    cut: () => nft(`add element inet ${table} cut { "${link}" }\n`),
    heal: () => nft(`flush set inet ${table} cut\n`),
    close,
  }
}

function imageOf(file: string, bytes: number): string {
  run("truncate", "-s", String(bytes), file)
  run("mkfs.ext4", "-q", "-m", "0", file)
  return file
}

function ready(holder: ChildProcess): Promise<void> {
  const { stdout } = holder
  if (stdout === null) throw new Error("the host has no output")
  return new Promise((resolve, reject) => {
    createInterface({ input: stdout }).once("line", () => resolve())
    holder.once("exit", (code) => reject(new Error(`the host ended before it was ready (${code})`)))
    holder.once("error", reject)
  })
}
