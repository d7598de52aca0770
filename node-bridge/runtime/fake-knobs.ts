/**
 * What a run of the fake controller does: set for all runs by whoever makes the controller, for one run by its image's name,
 * and finest by its environment (`FAKE_EXIT_CODE=3`, `FAKE_RUN_FOR_MS=50`).
 */
import { z } from "zod"
import { SignalName } from "../../schema/container.ts"
import type { RunSpec } from "../../schema/protocol.ts"

const ms = z.coerce.number().min(0)
const flag = z.stringbool().or(z.boolean())

export const FakeKnobs = z.object({
  prepare_ms: ms.default(0),
  /** The code that `prepare` fails with. */
  prepare_error: z.string().nullable().default(null),
  prepare_error_retryable: flag.default(false),
  /** How often `prepare` fails before it succeeds; null: always. */
  prepare_failures: z.coerce.number().nullable().default(null),
  start_ms: ms.default(0),
  start_error: z.string().nullable().default(null),
  start_error_retryable: flag.default(false),
  start_failures: z.coerce.number().nullable().default(null),
  /** The code that `setNetwork` fails with, retryably. */
  network_error: z.string().nullable().default(null),
  network_failures: z.coerce.number().nullable().default(null),
  /** The process ends by itself after this long; null: never. */
  run_for_ms: ms.nullable().default(null),
  exit_code: z.coerce.number().int().min(0).max(255).default(0),
  exit_signal: SignalName.nullable().default(null),
  oom_killed: flag.default(false),
  /** Only SIGKILL ends the process. */
  ignore_stop: flag.default(false),
  /** What the process prints when it starts, a line each. */
  output: z.string().default(""),
  stop_signal: SignalName.nullable().default(null),
})
export type FakeKnobs = z.infer<typeof FakeKnobs>

/** Images that say by their name what they do; any other runs until it is stopped. */
const IMAGES: Readonly<Record<string, Partial<FakeKnobs>>> = {
  "fake.test/missing": { prepare_error: "image_not_found" },
  "fake.test/no-command": { start_error: "command_not_found" },
  "fake.test/once": { run_for_ms: 0 },
  "fake.test/crash": { run_for_ms: 0, exit_code: 1 },
  "fake.test/hungry": { run_for_ms: 0, exit_code: 137, exit_signal: "SIGKILL", oom_killed: true },
  "fake.test/stubborn": { ignore_stop: true },
}

const PREFIX = "FAKE_"

/** Throws a `ZodError` when a `FAKE_` variable is wrong. */
export function knobsOf(spec: RunSpec, defaults: Partial<FakeKnobs>): FakeKnobs {
  const name = spec.image.replace(/[:@].*$/, "")
  const own = Object.entries(spec.env)
    .filter(([key]) => key.startsWith(PREFIX))
    .map(([key, value]) => [key.slice(PREFIX.length).toLowerCase(), value])
  return FakeKnobs.parse({ ...defaults, ...IMAGES[name], ...Object.fromEntries(own) })
}
