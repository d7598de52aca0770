/**
 * What a tenant's containers come to, by a model that knows no faults, no nodes but their number, and no time: after each step
 * everything has come to rest. `whatever` is for containers of restart `no` whose node was taken: the model does not know whose.
 */
export type Kind = "service" | "once" | "lasting"
export type Rest = "created" | "running" | "exited" | "lost" | "removed"

export interface ModelContainer {
  readonly kind: Kind
  /** All of these may be. */
  readonly may: readonly Rest[]
}

export type Act = "start" | "restart" | "stop" | "kill" | "remove" | "remove_by_force"

/** What can be done to a container at rest, and what it comes to; undefined: it is refused. */
export function acted(kind: Kind, rest: Rest, act: Act): Rest | undefined {
  const begun: Rest = kind === "once" ? "exited" : "running"
  switch (act) {
    case "start":
      return rest === "created" || rest === "exited" || rest === "lost" ? begun : undefined
    case "restart":
      return rest === "running" || rest === "exited" || rest === "lost" ? begun : undefined
    case "stop":
    case "kill":
      return rest === "running" ? "exited" : undefined
    case "remove":
      return rest === "created" || rest === "exited" || rest === "lost" ? "removed" : undefined
    case "remove_by_force":
      return "removed"
  }
}

/** A node was emptied by its deadline: what no policy starts again is stopped, if it was there. */
export const afterDrain = ({ kind, may }: ModelContainer): ModelContainer => ({
  kind,
  may: kind === "lasting" && may.includes("running") ? [...new Set([...may, "exited" as const])] : may,
})

/** A node was lost or forgotten. It may have stopped its runs by its own clock, and told so once it was back. */
export const afterLoss = ({ kind, may }: ModelContainer): ModelContainer => ({
  kind,
  may: kind === "lasting" && may.includes("running") ? [...new Set([...may, "lost" as const, "exited" as const])] : may,
})
