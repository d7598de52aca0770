/**
 * Answers that wait for their container, as `Prefer: wait` asks. What is kept for a repeat of the call is the answer before the
 * wait: a caller that gave up meanwhile finds its call done, and not still under way.
 */
import type { Container } from "../../schema/api.ts"
import type { ContainerId } from "../../schema/ids.ts"
import type { Answer } from "../shared/rpc.ts"
import { waitVerdict } from "./wait.ts"
import type { Watchers } from "./watchers.ts"

/** The answer once its container has settled, or as it is after `holdMs`. `view` is undefined for one that is known no longer. */
export async function held(
  answer: Answer<Container>,
  holdMs: number,
  watchers: Watchers,
  view: (id: ContainerId) => Container | undefined,
): Promise<Answer<Container>> {
  if (holdMs === 0) return answer
  const { id } = answer.body
  const look = () => {
    const now = view(id)
    return now === undefined || waitVerdict(now, "settled", undefined) !== "not_yet" ? { now } : undefined
  }
  const settled = (await watchers.until(id, look, holdMs)) ?? { now: view(id) }
  return { ...answer, body: settled.now ?? answer.body }
}
