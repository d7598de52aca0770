/** What the container's first process is: its arguments, environment, directory. Pure; Docker's rules for each. */
import { err, ok } from "../../schema/errors.ts"
import type { Result } from "../../schema/errors.ts"
import type { Reason, RunSpec } from "../../schema/protocol.ts"
import type { ImageConfig } from "../runtime/ports.ts"

const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/** `command` replaces the image's entrypoint and drops its CMD; `args` replace CMD. */
export function processArgs(spec: Pick<RunSpec, "command" | "args">, image: ImageConfig): Result<string[], Reason> {
  const words =
    spec.command === undefined ? [...image.entrypoint, ...(spec.args ?? image.cmd)] : [...spec.command, ...(spec.args ?? [])]
  if (words.length === 0 || words[0] === "") {
    return err({ code: "no_command", message: "The image names no command to run, and neither does the container." })
  }
  return ok(words)
}

/** Later wins: our defaults, the image, the tenant. */
export function processEnv(spec: Pick<RunSpec, "env" | "hostname" | "tty">, image: ImageConfig, home: string): string[] {
  const env = new Map<string, string>([
    ["PATH", DEFAULT_PATH],
    ["HOSTNAME", spec.hostname],
    ["HOME", home],
  ])
  if (spec.tty) env.set("TERM", "xterm")
  for (const entry of image.env) {
    const at = entry.indexOf("=")
    if (at > 0 && !entry.includes("\0")) env.set(entry.slice(0, at), entry.slice(at + 1))
  }
  for (const [name, value] of Object.entries(spec.env)) env.set(name, value)
  return [...env].map(([name, value]) => `${name}=${value}`)
}

/** An absolute path without `.`, `..` or doubled slashes: `..` cannot climb above the root. */
export function processWorkdir(spec: Pick<RunSpec, "workdir">, image: ImageConfig): string {
  const parts: string[] = []
  for (const part of (spec.workdir ?? image.workdir).split("/")) {
    if (part === "" || part === ".") continue
    if (part === "..") parts.pop()
    else parts.push(part)
  }
  return `/${parts.join("/")}`
}
