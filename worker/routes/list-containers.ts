import { Container, ContainerListQuery, page } from "../../schema/api.ts"
import { container } from "../examples.ts"
import { callerOf, jsonText, operation, tenantOf } from "../operation.ts"

/** `key=value` asks for the value, `key` alone only that the label be there. */
function parseLabel(text: string): { key: string; value: string | null } {
  const at = text.indexOf("=")
  return at < 0 ? { key: text, value: null } : { key: text.slice(0, at), value: text.slice(at + 1) }
}

export const listContainers = operation({
  id: "listContainers",
  method: "get",
  path: "/v1/containers",
  tag: "Containers",
  access: "containers:read",
  admission: "by-its-call",
  summary: "List containers",
  description: "Oldest first. Removed ones are listed only when you ask for that status.",
  query: ContainerListQuery,
  answer: {
    status: 200,
    description: "One page.",
    schema: page(Container, "ContainerPage"),
    example: { items: [container], next_cursor: null },
  },
  errors: [],
  example: { query: "label=app=web&status=running" },
  async handle(c, { query }) {
    const labels = [query.label ?? []].flat().map(parseLabel)
    const request = { cursor: query.cursor ?? null, limit: query.limit, labels, status: query.status ?? null }
    return jsonText(c, await tenantOf(c).listContainersJson(callerOf(c), request))
  },
})
