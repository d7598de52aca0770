/** Small C programs of the tests' own, in `probes/`, compiled without libraries so that they run in any root. */
import { execFileSync } from "node:child_process"
import { join } from "node:path"

/** Compiles `probes/NAME.c` to `path`. */
export function buildProbe(name: string, path: string, options: readonly string[] = ["-static"]): void {
  const source = join(import.meta.dirname, "probes", `${name}.c`)
  try {
    execFileSync("gcc", [...options, "-O1", "-Wall", "-Werror", "-o", path, source], { stdio: ["ignore", "ignore", "pipe"] })
  } catch (cause) {
    throw new Error(`${name}.c could not be compiled; it needs the packages gcc and libc6-dev.`, { cause })
  }
}
