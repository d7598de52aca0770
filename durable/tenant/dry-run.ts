/** Where a container would go, as its cells see it now. Asks all of them and changes nothing. */
import type { DryRun, OperatorDryRun } from "../../schema/api.ts"
import type { ContainerCreate } from "../../schema/container.ts"
import type { CellId } from "../../schema/ids.ts"
import type { Peers } from "../shared/ports.ts"
import type { Explanation, TenantConfig } from "../shared/rpc.ts"
import { askOf } from "./asking.ts"
import { mergeRefused } from "./placing.ts"
import { warningsOf } from "./warnings.ts"

/** Of all cells together, as of one. */
const MAX_NODES = 1_000

export async function explainAll(create: ContainerCreate, settings: TenantConfig, peers: Peers): Promise<Explanation[]> {
  const { name: _name, start: _start, ...spec } = create
  const ask = askOf(spec, settings)
  return Promise.all(settings.cells.map((cell) => peers.cell(cell).explain(cell, ask)))
}

/** For the tenant: no node by name. `first` is the cell that would be asked first. */
export function dryRunOf(
  create: ContainerCreate,
  explained: readonly Explanation[],
  settings: TenantConfig,
  first: CellId | undefined,
): DryRun {
  const fitting_nodes = explained.reduce((sum, { fitting }) => sum + fitting, 0)
  const favourite = explained[settings.cells.findIndex((cell) => cell === first)]
  const taking = favourite && favourite.fitting > 0 ? favourite : explained.find(({ fitting }) => fitting > 0)
  return {
    placeable: fitting_nodes > 0,
    fitting_nodes,
    node_region: taking?.region ?? null,
    refused: mergeRefused(explained.map(({ refused }) => refused)),
    warnings: warningsOf(create, undefined),
  }
}

/** For operators: every node, the best first; those of the cell that would be asked first before others that fit. */
export function nodesOf(explained: readonly Explanation[], first: CellId | undefined): OperatorDryRun {
  const nodes = explained.flatMap((one) => one.nodes)
  const rank = (node: OperatorDryRun["nodes"][number]) => (node.reason !== null ? 2 : node.cell_id === first ? 0 : 1)
  const ordered = nodes.toSorted((a, b) => rank(a) - rank(b))
  const [best] = ordered
  return { node_id: best?.reason === null ? best.node_id : null, nodes: ordered.slice(0, MAX_NODES) }
}
