import { expect, test } from "vitest"
import { anAssignment } from "../../support/assignments.ts"
import { chooseProcessors, parseProcessors, Processors } from "../../../node-bridge/runtime/processors.ts"

const aRun = () => anAssignment().run_id
const taken = (...parts: number[]) => new Map(parts.entries())
const numbers = (parts: number[], cpus: number) => {
  const chosen = chooseProcessors(taken(...parts), cpus)
  return chosen && [...chosen.keys()]
}

test("a run has as few processors as its limit fills, and those with the most room", () => {
  expect(numbers([0.5, 0.2, 0.9], 0.3)).toEqual([1])
  expect(numbers([0, 0, 0.5, 0], 2.5)).toEqual([0, 1, 3])
  expect(numbers([0, 0], 2)).toEqual([0, 1])
})

test("what no single processor has room for is spread over the fewest that have it together", () => {
  expect(numbers([0.6, 0.6, 0.6], 0.6)).toEqual([0, 1])
  expect(chooseProcessors(taken(0.5, 0.75), 0.75)).toEqual(new Map([0.5, 0.25].entries()))
})

test("where there is no room on all of them together, a run may use any", () => {
  expect(numbers([0.9, 0.9], 0.3)).toBeNull()
  const full = new Processors([0, 1])
  expect([full.take(aRun(), 1), full.take(aRun(), 1), full.take(aRun(), 1)]).toEqual(["0", "1", null])
})

test("as much as there is can be given out to the last part, in whatever sizes", () => {
  const processors = new Processors([0, 1, 2])
  const sizes = [0.7, 0.7, 0.7, 0.5, 0.1, 0.1, 0.2]
  const lists = sizes.map((cpus) => processors.take(aRun(), cpus))
  expect(lists).toEqual(["0", "1", "2", "0,1", "2", "2", null]) // the last fills what is left of all
  expect(processors.take(aRun(), 0.1)).toBeNull()
})

test("what ended gives its processors back, and asking again changes nothing", () => {
  const processors = new Processors([0, 1])
  const [first, second] = [aRun(), aRun()]
  expect(processors.take(first, 0.9)).toBe("0")
  expect(processors.take(first, 0.9)).toBe("0")
  expect(processors.take(second, 0.9)).toBe("1")
  processors.release(first)
  expect(processors.take(aRun(), 0.9)).toBe("0")
})

test("runs of an earlier bridge are counted again", () => {
  const processors = new Processors([0, 1])
  processors.adopt(aRun(), 0.9, "0")
  processors.adopt(aRun(), 0.1, null)
  expect(processors.take(aRun(), 0.9)).toBe("1")
})

test("a host that cannot hold runs to some processors lets each use all", () => {
  expect(new Processors([]).take(aRun(), 0.5)).toBeNull()
})

test("lists of processors are read as the kernel writes them", () => {
  expect(parseProcessors("0-3,8,10-11\n")).toEqual([0, 1, 2, 3, 8, 10, 11])
  expect(parseProcessors("")).toEqual([])
})
