/** What a bench may ask of the worker beside this file, as JSON. */
import type { CellRpc } from "../../../durable/shared/rpc.ts"
import type { Weights } from "../../../schema/api.ts"
import type { CellId } from "../../../schema/ids.ts"

/** One call, as `cell.METHOD(...args)`. */
export type CellCall = { [K in keyof CellRpc]: { cell: CellId; method: K; args: Parameters<CellRpc[K]> } }[keyof CellRpc]

/** Nodes filled by the product's own search in the worker's memory, with no object around it. */
export interface Trial {
  readonly nodes: number
  /** Whether the best of all nodes is taken, and not of a sample. */
  readonly fullScan: boolean
  readonly weights: Weights
  /** Processors asked for in all, as a part of what the nodes have. */
  readonly asked: number
}

export interface TrialResult {
  readonly placed: number
  readonly refused: number
  /** Parts of all processors and of all memory that are reserved in the end. */
  readonly cpus: number
  readonly memory: number
  /** When half of the processors were asked for: the part reserved of the most loaded node, and nodes with nothing on them. */
  readonly fullest: number
  readonly empty: number
}

export type DoorCall =
  | { readonly kind: "cell"; readonly calls: readonly CellCall[] }
  | { readonly kind: "trial"; readonly trial: Trial }
