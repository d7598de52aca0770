/** Flattens a JSON Schema of the OpenAPI document into rows that a person can read. Pure. */

/** What is used of a JSON Schema here; OpenAPI 3.1 has the whole of draft 2020-12. */
export interface JsonSchema {
  readonly $ref?: string
  readonly type?: string | readonly string[]
  readonly enum?: readonly unknown[]
  readonly const?: unknown
  readonly default?: unknown
  readonly description?: string
  readonly properties?: Readonly<Record<string, JsonSchema>>
  readonly required?: readonly string[]
  readonly items?: JsonSchema
  readonly additionalProperties?: boolean | JsonSchema
  readonly anyOf?: readonly JsonSchema[]
  readonly oneOf?: readonly JsonSchema[]
  readonly allOf?: readonly JsonSchema[]
  readonly minimum?: number
  readonly maximum?: number
  readonly minLength?: number
  readonly maxLength?: number
  readonly maxItems?: number
}
export type Schemas = Readonly<Record<string, JsonSchema>>

export interface Field {
  /** `resources.cpus`, `items[].id`. */
  readonly name: string
  readonly type: string
  readonly required: boolean
  readonly description: string
  readonly limits: string
}

const NAME = "#/components/schemas/"
/** Views nest no deeper; this is a guard, not a limit. */
const MAX_DEPTH = 6

export function resolve(schema: JsonSchema, schemas: Schemas): JsonSchema {
  if (schema.$ref) return { ...resolve(schemas[schema.$ref.slice(NAME.length)] ?? {}, schemas), ...schema, $ref: undefined }
  const [only, ...others] = (schema.allOf ?? schema.anyOf ?? schema.oneOf ?? []).filter((part) => part.type !== "null")
  return only && others.length === 0 ? { ...resolve(only, schemas), ...schema } : schema
}

export function fieldsOf(schema: JsonSchema, schemas: Schemas, prefix = "", depth = 0): Field[] {
  const { properties = {}, required = [] } = resolve(schema, schemas)
  return Object.entries(properties).flatMap(([key, part]) => {
    const name = `${prefix}${key}`
    const whole = resolve(part, schemas)
    const row: Field = {
      name,
      type: typeOf(part, schemas),
      required: required.includes(key),
      description: whole.description ?? "",
      limits: limitsOf(whole),
    }
    if (depth >= MAX_DEPTH) return [row]
    const items = whole.items && resolve(whole.items, schemas)
    const inner = items?.properties
      ? fieldsOf(items, schemas, `${name}[].`, depth + 1)
      : whole.properties
        ? fieldsOf(whole, schemas, `${name}.`, depth + 1)
        : []
    return [row, ...inner]
  })
}

export function typeOf(schema: JsonSchema, schemas: Schemas): string {
  const whole = resolve(schema, schemas)
  if (whole.enum) return whole.enum.map((value) => (value === "" ? '""' : String(value))).join(" | ")
  if (whole.const !== undefined) return JSON.stringify(whole.const)
  const choices = (whole.anyOf ?? whole.oneOf ?? []).map((part) => typeOf(part, schemas))
  if (choices.length > 1) return [...new Set(choices)].join(" | ")
  const types = [whole.type ?? "any"].flat()
  const named = types.map((type) => {
    if (type === "array") return `list of ${whole.items ? typeOf(whole.items, schemas) : "any"}`
    if (type === "object" && !whole.properties && typeof whole.additionalProperties === "object")
      return `map to ${typeOf(whole.additionalProperties, schemas)}`
    return type
  })
  return named.join(" | ")
}

function limitsOf(schema: JsonSchema): string {
  const { minimum, maximum, maxLength, maxItems } = schema
  const said = [
    schema.default === undefined || isEmpty(schema.default) ? "" : `default ${JSON.stringify(schema.default)}`,
    minimum === undefined || minimum === Number.MIN_SAFE_INTEGER ? "" : `at least ${minimum}`,
    maximum === undefined || maximum === Number.MAX_SAFE_INTEGER ? "" : `at most ${maximum}`,
    maxLength === undefined ? "" : `at most ${maxLength} characters`,
    maxItems === undefined ? "" : `at most ${maxItems} entries`,
  ]
  return said.filter((words) => words !== "").join(", ")
}

const isEmpty = (value: unknown) => typeof value === "object" && value !== null && Object.keys(value).length === 0
