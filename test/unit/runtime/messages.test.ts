import { expect, test } from "vitest"
import { clean, explainStartFailure } from "../../../node-bridge/runtime/messages.ts"

const CONTEXT = { command: "serve", workdir: "/srv/app", hostDirs: ["/var/lib/berth", "/run/berth-1"] }

test.each([
  ["crun", "executable file `serve` not found in $PATH: No such file or directory", "command_not_found", 127],
  [
    "runc",
    'runc create failed: unable to start container process: exec: "serve": executable file not found in $PATH',
    "command_not_found",
    127,
  ],
  ["crun, no access", "open executable: Permission denied", "command_not_executable", 126],
  ["crun, a directory", "open executable: Operation not permitted", "command_not_executable", 126],
  ["runc, not a program", 'exec: "/etc/notes": permission denied', "command_not_executable", 126],
  ["crun, workdir", "cannot chdir: Not a directory", "workdir_invalid", 126],
  ["runc, workdir", "mkdir /var/lib/x/srv/app: not a directory", "workdir_invalid", 126],
])("%s", (_what, said, code, exitCode) => {
  expect(explainStartFailure(said, CONTEXT)).toMatchObject({ reason: { code }, exitCode, retryable: false })
})

test("a shortage of the host may be over in a moment", () => {
  expect(explainStartFailure("fork: Cannot allocate memory", CONTEXT)).toMatchObject({
    reason: { code: "start_failed" },
    retryable: true,
  })
})

test("anything else keeps its words and loses the host's paths", () => {
  const said = "crun: mount `/var/lib/berth/runs/x` to `/proc/12/fd/7` via /run/berth-1/m/x: Invalid\n argument"
  const { reason } = explainStartFailure(said, CONTEXT)
  expect(reason.code).toBe("start_failed")
  expect(reason.message).not.toMatch(/berth|\/proc\/12/)
  expect(reason.message).toContain("Invalid argument")
  expect(clean("x".repeat(1000), []).length).toBeLessThan(310)
})
