/**
 * What the host's programs say of themselves, for the node's facts and as the key under which a self-test is remembered; and of
 * which package they are, for Debian mends a program without changing what it says.
 */
import { readFileSync } from "node:fs"
import { realpath } from "node:fs/promises"
import { release, version } from "node:os"
import { packageKey } from "../../schema/vulnerabilities.ts"
import { exec } from "./exec.ts"
import { RUNTIME_NAMES } from "./runtimes.ts"
import type { ToolName, ToolPaths } from "./tools.ts"

const VERSION_TIMEOUT_MS = 10_000
const MAX_VERSION_CHARS = 256

export async function readVersions(tools: ToolPaths, missing: readonly ToolName[]): Promise<Record<string, string>> {
  const asked: readonly ToolName[] = ["conmon", ...RUNTIME_NAMES]
  const present = asked.filter((name) => !missing.includes(name))
  const files = Object.fromEntries(present.map((name) => [name, tools[name]]))
  const [found, packages] = await Promise.all([
    Promise.all(present.map(async (name) => [name, await versionOf(tools[name])] as const)),
    packagesOf(files).catch(() => ({})), // then only the programs' own word counts
  ])
  return {
    kernel: release(),
    kernel_build: version(),
    node: process.version,
    ...Object.fromEntries(found),
    ...Object.fromEntries(Object.entries(packages).map(([name, text]) => [packageKey(name), text])),
  }
}

/** `crun version 1.8.1` → `1.8.1`: the last word of the first line. */
async function versionOf(file: string): Promise<string> {
  const { stdout } = await exec(file, ["--version"], { timeoutMs: VERSION_TIMEOUT_MS })
  return (stdout.split("\n", 1)[0]?.trim().split(" ").at(-1) ?? "").slice(0, MAX_VERSION_CHARS)
}

/** `debian:12`; null for a system without dpkg's versions. Of os-release(5). */
export function distributionOf(osRelease: string): string | null {
  const value = (name: string) => new RegExp(`^${name}="?([a-z0-9.]+)"?$`, "m").exec(osRelease)?.[1]
  const [id, number] = [value("ID"), value("VERSION_ID")]
  return id === "debian" && number !== undefined ? `${id}:${number}` : null
}

const ask = (program: string, ...args: readonly string[]) => exec(program, args, { timeoutMs: VERSION_TIMEOUT_MS })

/** `debian:12 1.1.5+ds1-1+deb12u1`, by the source package, for each program that is in one and as the package has it. */
async function packagesOf(files: Readonly<Record<string, string>>): Promise<Record<string, string>> {
  const distribution = distributionOf(readIfThere("/etc/os-release"))
  if (distribution === null) return {}
  const paths = await Promise.all(Object.entries(files).map(async ([name, file]) => [name, await realpath(file)] as const))
  // Of a path that is in no package it says so elsewhere.
  const owners = pairs((await ask("dpkg-query", "-S", ...paths.map(([, path]) => path))).stdout, /^([^:\s]+)[^ ]*: (.+)$/)
  const names = owners.map(([name]) => name)
  if (names.length === 0) return {}
  const changed = (await ask("dpkg", "--verify", ...names)).stdout
  const listed = await ask("dpkg-query", "-W", "-f", "${Package} ${source:Version}\n", ...names)
  const versions = new Map(pairs(listed.stdout, /^(\S+) (\S+)$/))
  const entries = paths.flatMap(([name, path]) => {
    const owner = owners.find(([, owned]) => owned === path)?.[0]
    const found = owner === undefined || changed.includes(` ${path}\n`) ? undefined : versions.get(owner)
    return found === undefined ? [] : [[name, `${distribution} ${found}`.slice(0, MAX_VERSION_CHARS)] as const]
  })
  return Object.fromEntries(entries)
}

const pairs = (text: string, pattern: RegExp): [string, string][] =>
  text.split("\n").flatMap((line) => {
    const [, one, other] = pattern.exec(line) ?? []
    return one === undefined || other === undefined ? [] : [[one, other]]
  })

function readIfThere(path: string): string {
  try {
    return readFileSync(path, "utf8")
  } catch {
    return ""
  }
}
