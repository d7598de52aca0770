import { expect, it } from "vitest"
import { MAX_WAIT_SECONDS } from "../../../schema/api.ts"
import { holdOf } from "../../../worker/middleware/prefer.ts"

it.each([
  ["wait=10", 10],
  ["Wait = 10", 10],
  ['wait="10"', 10],
  ["respond-async, wait=10", 10],
  ["wait=10; foo=bar", 10],
  ["wait=10, wait=20", 10],
  ["wait=0", 0],
  ["wait=999999", MAX_WAIT_SECONDS],
])("reads %j as a wait of %d seconds, and says that it counts", (prefer, seconds) => {
  expect(holdOf(prefer)).toEqual({ ms: seconds * 1000, headers: { "Preference-Applied": `wait=${seconds}` } })
})

it.each([undefined, "", "respond-async", "wait", "wait=", "wait=-1", "wait=1.5", "wait=soon", "await=10", "wait=10x"])(
  "takes %j for no wait at all",
  (prefer) => {
    expect(holdOf(prefer)).toEqual({ ms: 0, headers: {} })
  },
)
