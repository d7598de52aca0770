import { describe, expect, it } from "vitest"
import { Commands } from "../../../durable/node/commands.ts"

/** What the caller of a command is told when the bridge answers it with this. */
async function toldOf(reason: { code: string; message: string } | null): Promise<unknown> {
  const commands = new Commands(41)
  const asked = Promise.withResolvers<number>()
  const answer = commands.call(asked.resolve).catch((refused: unknown) => refused)
  commands.answered(await asked.promise, reason, { pid: 1 })
  return answer
}

describe("a command's answer", () => {
  it("is the bridge's data as JSON", async () => {
    expect(await toldOf(null)).toBe('{"pid":1}')
  })

  it.each([
    ["no_such_run", "not_found"],
    ["not_running", "action_not_allowed"],
    ["node_fault", "unavailable"],
    ["constructor", "unavailable"],
  ])("of %s is %s to the caller", async (code, told) => {
    expect(await toldOf({ code, message: "why" })).toMatchObject({ code: told, message: "why" })
  })

  it("under the id of another command is nobody's", () => {
    const ids: number[] = []
    const commands = new Commands(41)
    void commands.call((id) => ids.push(id)).catch(() => {})
    expect(ids).toEqual([41])
    commands.answered(40, null, "not for you")
    commands.breakAll()
  })
})
