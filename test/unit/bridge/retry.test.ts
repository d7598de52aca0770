import { describe, expect, it } from "vitest"
import { verdict } from "../../../node-bridge/agent/retry.ts"
import { ControllerError } from "../../../node-bridge/runtime/controller.ts"

describe("a failed verb", () => {
  const soon = new ControllerError("no_netns", "None is free.", { retryable: true })
  const never = new ControllerError("image_not_found", "There is none.")
  const absent = new ControllerError("command_not_found", "There is none.", { exitCode: 127 })
  it.each([
    ["is tried again when the controller says so", verdict("start", soon, 1), { kind: "again", inMs: 250 }],
    ["is given up after three starts", verdict("start", soon, 3), { kind: "give_up", reason: soon.reason, exitCode: null }],
    [
      "is given up at once when it cannot get better",
      verdict("prepare", never, 1),
      { kind: "give_up", reason: never.reason, exitCode: null },
    ],
    ["keeps a shell's exit code", verdict("start", absent, 1), { kind: "give_up", reason: absent.reason, exitCode: 127 }],
    ["is tried again when nobody foresaw it", verdict("prepare", new Error("EIO"), 1), { kind: "again", inMs: 250 }],
    [
      "does not show a tenant what nobody foresaw",
      verdict("prepare", new Error("/etc/shadow"), 9),
      { kind: "give_up", reason: { code: "node_fault", message: "The node failed to prepare the container." }, exitCode: null },
    ],
    ["is tried for ever when what runs must be steered", verdict("release", never, 99), { kind: "again", inMs: 10_000 }],
  ])("%s", (_, got, expected) => expect(got).toEqual(expected))
})
