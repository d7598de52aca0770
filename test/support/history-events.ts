/** The rules of `history-check.ts` for the log of events that a tenant reads: nothing missing, nothing twice, all in order. */
import type { EventType } from "../../schema/api.ts"
import { isTerminal } from "../../schema/lifecycle.ts"
import type { Find } from "./history-check.ts"
import type { FinalContainer, FinalEvent, History } from "./history.ts"

const ENDS: readonly EventType[] = ["container.exited", "container.lost"]
/** What may be told of a run after its end: what follows from the end, or is done to the container. */
const AFTER_END: readonly EventType[] = [
  "container.restart_scheduled", "container.stopping", "container.removed", "container.deadline_passed", "container.gave_up",
  "container.updated",
] // prettier-ignore

export function checkEvents({ final }: History, find: Find): void {
  for (const [, events] of Map.groupBy(final.events, (event) => event.tenant)) checkOrder(events, find)
  const byContainer = Map.groupBy(final.events, (event) => event.container)
  for (const container of final.containers) checkContainer(container, byContainer.get(container.id) ?? [], find)
}

function checkOrder(events: readonly FinalEvent[], find: Find): void {
  for (const [i, event] of events.entries()) {
    const before = events[i - 1]
    if (before === undefined) continue
    if (event.cursor <= before.cursor) find("event_out_of_order", `cursor ${event.cursor} follows ${before.cursor}`)
    if (event.at_ms < before.at_ms) find("event_out_of_order", `${event.type} at ${event.cursor} is older than the one before`)
  }
}

function checkContainer({ id, status, run: latest }: FinalContainer, events: readonly FinalEvent[], find: Find): void {
  const count = (type: EventType) => events.filter((event) => event.type === type).length
  if (count("container.created") > 1) find("event_twice", `${id} was created ${count("container.created")} times`)
  if (events[0]?.type !== "container.created") find("event_missing", `${id} begins with ${events[0]?.type ?? "nothing"}`)
  if (count("container.removed") > 1) find("event_twice", `${id} was removed ${count("container.removed")} times`)
  if (status === "removed" && count("container.removed") === 0) find("event_missing", `${id} is removed and no event says so`)
  if (count("container.removed") > 0 && events.at(-1)?.type !== "container.removed")
    find("event_out_of_order", `${id} was removed, and then came ${events.at(-1)?.type}`)

  const ofRuns = Map.groupBy(
    events.filter((event) => event.run !== null),
    (event) => event.run,
  )
  let attempt = 0
  for (const [run, told] of ofRuns) {
    const first = told[0]
    if (first?.type !== "container.scheduling") find("event_missing", `${run} begins with ${first?.type}`)
    else if (first.attempt !== ++attempt)
      find("event_missing", `${run} is attempt ${first.attempt}, and ${attempt - 1} were told before`)
    if (told.filter((event) => event.type === "container.scheduling").length > 1) find("event_twice", `${run} was made twice`)
    const ends = told.filter((event) => ENDS.includes(event.type))
    const [end, again] = ends
    if (again) find("event_twice", `${run} ended ${ends.length} times`)
    const over = run !== latest?.id || (latest !== null && isTerminal(latest.state))
    if (over && !end) find("event_missing", `${run} has ended and no event says so`)
    const late =
      end && told.slice(told.indexOf(end) + 1).find((event) => !ENDS.includes(event.type) && !AFTER_END.includes(event.type))
    if (late) find("event_out_of_order", `${run} ended, and then came ${late.type}`)
  }
}
