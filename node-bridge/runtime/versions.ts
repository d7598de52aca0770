/** What the host's programs say of themselves, for the node's facts and as the key under which a self-test is remembered. */
import { release, version } from "node:os"
import { exec } from "./exec.ts"
import { RUNTIME_NAMES } from "./runtimes.ts"
import type { ToolName, ToolPaths } from "./tools.ts"

const VERSION_TIMEOUT_MS = 10_000
const MAX_VERSION_CHARS = 256

export async function readVersions(tools: ToolPaths, missing: readonly ToolName[]): Promise<Record<string, string>> {
  const asked: readonly ToolName[] = ["conmon", ...RUNTIME_NAMES]
  const present = asked.filter((name) => !missing.includes(name))
  const found = await Promise.all(present.map(async (name) => [name, await versionOf(tools[name])] as const))
  return { kernel: release(), kernel_build: version(), node: process.version, ...Object.fromEntries(found) }
}

/** `crun version 1.8.1` → `1.8.1`: the last word of the first line. */
async function versionOf(file: string): Promise<string> {
  const { stdout } = await exec(file, ["--version"], { timeoutMs: VERSION_TIMEOUT_MS })
  return (stdout.split("\n", 1)[0]?.trim().split(" ").at(-1) ?? "").slice(0, MAX_VERSION_CHARS)
}
