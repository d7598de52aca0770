import { expect, it } from "vitest"
import { Recent } from "../../../durable/tenant/recent.ts"
import { replaceRun } from "../../../durable/tenant/group.ts"
import { aGroup, aRunRow } from "../../support/rows.ts"

it("finds a container by its id and by any of its runs, as it was put last", () => {
  const recent = new Recent()
  const group = aGroup()
  recent.put(group)
  const ended = replaceRun(group, { ...group.run, state: "failed" })
  recent.put(ended)
  expect(recent.get(group.container.id)).toBe(ended)
  expect(recent.byRun(group.run.id)).toBe(ended)
})

it("knows no run that its container has lost", () => {
  const recent = new Recent()
  const group = aGroup()
  recent.put(group)
  recent.put({ ...group, runs: [aRunRow(group.container)] })
  expect(recent.byRun(group.run.id)).toBeUndefined()
})

it("holds a bounded number of containers, those that came up last", () => {
  const recent = new Recent()
  const groups = Array.from({ length: 600 }, () => aGroup())
  for (const group of groups) recent.put(group)
  const [first] = groups
  if (!first) throw new Error("no groups")
  expect(groups.filter(({ container }) => recent.get(container.id)).length).toBe(500)
  expect(recent.get(first.container.id)).toBeUndefined()
  expect(recent.byRun(first.run.id)).toBeUndefined()
  const last = groups.at(-1)
  expect(last && recent.byRun(last.run.id)).toBe(last)
})

it("is empty after a clear", () => {
  const recent = new Recent()
  const group = aGroup()
  recent.put(group)
  recent.clear()
  expect(recent.get(group.container.id)).toBeUndefined()
  expect(recent.byRun(group.run.id)).toBeUndefined()
})
