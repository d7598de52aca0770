/** Cells, as operators make and weigh them. */
import { z } from "zod"
import { Cell, CellCreate, CellUpdate, fromQuery, OPERATOR_SCOPE, page, PageQuery } from "../../schema/api.ts"
import { CellId } from "../../schema/ids.ts"
import { pageOf, parseCursor } from "../cursors.ts"
import type { CellRow } from "../directory-cells.ts"
import type { AppContext } from "../env.ts"
import { cell, CELL_ID } from "../examples.ts"
import { MERGE_PATCH_MEDIA, operation } from "../operation.ts"
import { tellTenants } from "../tenant-settings.ts"

const CellPath = z.object({ id: CellId.meta({ examples: [CELL_ID] }) })

/** Each cell of a page is asked for its room, so pages stay short. */
const MAX_CELL_PAGE = 100

async function viewOf(c: AppContext, row: CellRow): Promise<Cell> {
  const room = await c.var.services.peers.cell(row.id).room()
  return { id: row.id, name: row.name, weights: row.weights, room, created_at: new Date(row.createdAtMs).toISOString() }
}

const configure = (c: AppContext, { id, weights, revision }: CellRow) =>
  c.var.services.peers.cell(id).configure(id, { weights, revision })

export const createCell = operation({
  id: "createCell",
  method: "post",
  path: "/v1/admin/cells",
  tag: "Operators",
  access: OPERATOR_SCOPE,
  summary: "Create a cell",
  description:
    "The nodes that are scheduled together. Nodes join it by join tokens that name it, or are moved to it. Every tenant's " +
    "containers may go there from now on: each asks the roomier of two cells, and the next when that has no room.",
  body: CellCreate,
  answer: {
    status: 201,
    description: "The cell.",
    schema: Cell,
    example: { ...cell, room: { ...cell.room, nodes: 0, ready_nodes: 0, runs: 0, cpus: 0, free_cpus: 0, memory_bytes: 0, free_memory_bytes: 0 } }, // prettier-ignore
    headers: { Location: "Where to read the cell." },
  },
  errors: ["name_taken"],
  example: { body: { name: "eu-1-b", weights: { spread: 1, image: 2 } } },
  async handle(c, { body, ids }) {
    const { clock, directory } = c.var.services
    const row = await directory.addCell(ids.make("cel"), body, clock.now())
    await configure(c, row)
    await tellTenants(c.var.services)
    return { status: 201, body: await viewOf(c, row), headers: { location: `/v1/admin/cells/${row.id}` } }
  },
})

export const listCells = operation({
  id: "listCells",
  method: "get",
  path: "/v1/admin/cells",
  tag: "Operators",
  access: OPERATOR_SCOPE,
  summary: "List cells",
  description: `Oldest first, at most ${MAX_CELL_PAGE} at a time, with the room that each has.`,
  query: PageQuery.extend({ limit: fromQuery(z.int().min(1).max(MAX_CELL_PAGE)).default(MAX_CELL_PAGE) }),
  answer: {
    status: 200,
    description: "One page.",
    schema: page(Cell, "CellPage"),
    example: { items: [cell], next_cursor: null },
  },
  errors: [],
  example: { query: "limit=50" },
  async handle(c, { query }) {
    const rows = await c.var.services.directory.cells(parseCursor(query.cursor), query.limit + 1)
    const items = await Promise.all(rows.slice(0, query.limit).map((row) => viewOf(c, row)))
    return { status: 200, body: pageOf(rows, query.limit, items) }
  },
})

export const getCell = operation({
  id: "getCell",
  method: "get",
  path: "/v1/admin/cells/{id}",
  tag: "Operators",
  access: OPERATOR_SCOPE,
  summary: "Read a cell",
  description: "How it weighs nodes, and how much room it has now.",
  params: CellPath,
  answer: { status: 200, description: "The cell.", schema: Cell, example: cell },
  errors: ["not_found"],
  example: { params: { id: CELL_ID } },
  handle: async (c, { params }) => ({ status: 200, body: await viewOf(c, await c.var.services.directory.cell(params.id)) }),
})

export const updateCell = operation({
  id: "updateCell",
  method: "patch",
  path: "/v1/admin/cells/{id}",
  tag: "Operators",
  access: OPERATOR_SCOPE,
  summary: "Change a cell's weights",
  description:
    "A JSON Merge Patch (RFC 7396): a weight left out stays. The node with the greatest weighted sum of scores takes a run. It " +
    "holds for runs that are placed from then on.",
  params: CellPath,
  body: CellUpdate,
  bodyMedia: [MERGE_PATCH_MEDIA],
  answer: { status: 200, description: "The cell, as it is now.", schema: Cell, example: cell },
  errors: ["not_found"],
  example: { params: { id: CELL_ID }, body: { weights: { bin_pack: 2, spread: 0 } } },
  async handle(c, { params, body }) {
    const row = await c.var.services.directory.updateCell(params.id, body)
    // If this call fails here, the row is ahead of the object; the caller hears so, and a repeat does both.
    await configure(c, row)
    return { status: 200, body: await viewOf(c, row) }
  },
})
