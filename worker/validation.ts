/** Checks a request against its operation's schemas and names every fault at once, by where it is. Pure. */
import { z } from "zod"
import type { FieldError } from "../schema/errors.ts"
import { AppError } from "../schema/errors.ts"

/** A body with hundreds of faults is not read by a person; the first of them say enough. */
const MAX_ERRORS = 50

export interface RequestSchemas {
  readonly params?: unknown
  readonly query?: unknown
  readonly body?: unknown
}

/** Of an operation without query parameters: any one is unknown. */
const NO_QUERY = z.strictObject({})

/** @throws AppError `invalid_field`; `not_found` when the path cannot name anything. */
export function validate(
  schemas: RequestSchemas,
  request: { params: Record<string, string>; query: Record<string, string[]>; body: unknown },
): { params: unknown; query: unknown; body: unknown } {
  const params = check(schemas.params, request.params)
  if (params.errors.length > 0) throw new AppError("not_found", "There is nothing at this address.")
  const query = check(schemas.query ?? NO_QUERY, single(request.query))
  const body = check(schemas.body, request.body)
  const errors = [
    ...query.errors.map(({ path, message }) => ({ pointer: `?${path.join(".")}`, message })),
    ...body.errors.map(({ path, message }) => ({ pointer: jsonPointer(path), message })),
  ]
  if (errors.length > 0) throw invalid(errors)
  return { params: params.value, query: query.value, body: body.value }
}

export function invalid(errors: FieldError[]): AppError {
  const [first] = errors
  const more = errors.length > 1 ? ` (and ${errors.length - 1} more)` : ""
  const where = first?.pointer === "" ? "The body" : first?.pointer
  return new AppError("invalid_field", `${where}: ${first?.message}${more}`, { errors: errors.slice(0, MAX_ERRORS) })
}

/** A parameter that is repeated stays a list; the schema says whether it may be. */
const single = (query: Record<string, string[]>) =>
  Object.fromEntries(Object.entries(query).map(([name, values]) => [name, values.length === 1 ? values[0] : values]))

/** RFC 6901. */
const jsonPointer = (path: readonly PropertyKey[]) =>
  path.map((part) => `/${String(part).replaceAll("~", "~0").replaceAll("/", "~1")}`).join("")

interface Fault {
  readonly path: PropertyKey[]
  readonly message: string
}

function check(schema: unknown, value: unknown): { value: unknown; errors: Fault[] } {
  if (!(schema instanceof z.ZodType)) return { value: undefined, errors: [] }
  const result = schema.safeParse(value, { reportInput: true })
  return result.success ? { value: result.data, errors: [] } : { value: undefined, errors: result.error.issues.flatMap(faultsOf) }
}

/** Unknown names become one fault each, at the name itself. */
function faultsOf(issue: z.core.$ZodIssue): Fault[] {
  if (issue.code === "unrecognized_keys")
    return issue.keys.map((key) => ({ path: [...issue.path, key], message: "is not a known name" }))
  if (issue.code === "invalid_type" && issue.input === undefined)
    return [{ path: issue.path, message: `is needed: ${issue.expected}` }]
  if (issue.code === "invalid_key") return [{ path: issue.path, message: issue.issues[0]?.message ?? "is not a valid name" }]
  return [{ path: issue.path, message: sentence(issue.message) }]
}

/** zod's own messages begin with `Invalid input: `; ours say what must be. */
const sentence = (message: string) => message.replace(/^Invalid input: /, "")
