/** Which events a node's notices make. The node is not trusted: it repeats itself, and it may say the same without end. Pure. */
import type { EventType } from "../../schema/api.ts"
import type { Notice, NoticeKind } from "../../schema/protocol.ts"
import type { EventDraft } from "./events.ts"

/** Of one run. More of a kind tell nothing new, and a container that fills its disk in a loop must not fill the log of events. */
export const MAX_NOTICES_OF_A_KIND = 20

const TYPES: Record<NoticeKind, EventType> = {
  isolation_deviated: "container.isolation_deviated",
  accelerator_lost: "container.accelerator_lost",
  disk_full: "container.disk_full",
  logs_throttled: "container.logs_throttled",
}

/** `told` are the run's notices that were made events already. Undefined: this one makes none. */
export function noticed(notice: Notice, told: readonly Pick<Notice, "id" | "kind">[]): EventDraft | undefined {
  if (told.some(({ id }) => id === notice.id)) return undefined
  if (told.filter(({ kind }) => kind === notice.kind).length >= MAX_NOTICES_OF_A_KIND) return undefined
  return { type: TYPES[notice.kind], run_id: notice.run_id, data: { reason: notice.reason } }
}
