/** Where the host's programs are. Found once at start; a path may be given, so that a test can put another in its place. */
import { accessSync, constants } from "node:fs"
import { join } from "node:path"
import { TOOL_ENV } from "./exec.ts"
import { RUNTIME_NAMES } from "./runtimes.ts"

export const TOOL_NAMES = ["conmon", ...RUNTIME_NAMES, "busybox", "rm"] as const
export type ToolName = (typeof TOOL_NAMES)[number]
export type ToolPaths = Readonly<Record<ToolName, string>>

/** Absolute paths of all tools; one that is not installed keeps its bare name and is in `missing`. */
export function findTools(given: Readonly<Partial<Record<ToolName, string>>>): {
  readonly paths: ToolPaths
  readonly missing: readonly ToolName[]
} {
  const missing: ToolName[] = []
  const find = (name: ToolName): string => {
    const asked = given[name]
    if (asked !== undefined) return asked
    const found = (TOOL_ENV["PATH"] ?? "")
      .split(":")
      .map((directory) => join(directory, name))
      .find(isExecutable)
    if (found === undefined) missing.push(name)
    return found ?? name
  }
  const paths = Object.fromEntries(TOOL_NAMES.map((name) => [name, find(name)])) as ToolPaths
  return { paths, missing }
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
