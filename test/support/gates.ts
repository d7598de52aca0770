/**
 * Stands in for host programs so that a test can stop a create at one of their steps: the first call of a held step waits,
 * later ones pass, so that a bridge that begins anew goes on while the orphaned call of a dead one still waits.
 */
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { waitFor } from "./wait-for.ts"

/** A program and a word of its arguments; `crun-created` is after the runtime did its work and before it says so. */
export type GateStep = "skopeo-copy" | "umoci-unpack" | "crun-create" | "crun-created"

export interface Gates {
  /** For `BERTH_TOOLS`. */
  readonly dir: string
  /** From now on the next call of this step waits. */
  hold(step: GateStep): Held
  /** The programs that stand in for others and live now. */
  waiting(): string[]
}

export interface Held {
  /** Resolves when a call waits at the step. */
  arrived(): Promise<unknown>
  /** Lets the call that waits go on, or the next one pass. Idempotent. */
  release(): void
}

export function openGates(dir: string): Gates {
  mkdirSync(dir, { recursive: true })
  for (const name of ["skopeo", "umoci", "crun"]) {
    const program = join(dir, name)
    writeFileSync(
      `${program}.new`,
      `#!/bin/busybox sh
hold() { if mv ${dir}/$1 ${dir}/$1.at 2>/dev/null; then while [ -e ${dir}/$1.at ]; do usleep 10000; done; fi; }
created=
for word in "$@"; do
  case $word in
    copy | unpack) hold ${name}-$word ;;
    create) hold ${name}-$word; created=${dir}/${name}-created ;;
  esac
done
[ -n "$created" ] && [ -e $created ] || exec /usr/bin/${name} "$@"
/usr/bin/${name} "$@"
code=$?
hold ${name}-created
exit $code
`,
    )
    chmodSync(`${program}.new`, 0o755)
    renameSync(`${program}.new`, program)
  }
  return {
    dir,
    waiting: () => commandLines().filter((line) => line.includes(`${dir}/`)),
    hold: (step) => {
      const gate = join(dir, step)
      writeFileSync(gate, "")
      return {
        arrived: () => waitFor(`a call of ${step}`, () => existsSync(`${gate}.at`), 20_000),
        release: () => {
          rmSync(gate, { force: true })
          rmSync(`${gate}.at`, { force: true })
        },
      }
    },
  }
}

const commandLines = () =>
  readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        return [readFileSync(`/proc/${pid}/cmdline`, "latin1").replaceAll("\0", " ")]
      } catch {
        return [] // it ended while we looked
      }
    })
    .filter((line) => line.startsWith("/bin/busybox sh "))
