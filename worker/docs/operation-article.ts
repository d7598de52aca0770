/** One operation of the OpenAPI document as an article of the documentation. Pure. */
import { html } from "hono/html"
import type { Field, JsonSchema, Schemas } from "./schema-fields.ts"
import { fieldsOf, resolve, typeOf } from "./schema-fields.ts"

export interface DocumentedMedia {
  readonly schema?: JsonSchema
  readonly example?: unknown
}

/** What is used here of an OpenAPI operation object, and what openapi.ts adds to it. */
export interface DocumentedOperation {
  readonly operationId: string
  readonly summary: string
  readonly description: string
  readonly tags: readonly string[]
  readonly parameters?: readonly { name: string; in: string; required?: boolean; description?: string; schema: JsonSchema }[]
  readonly requestBody?: { required?: boolean; content: Readonly<Record<string, DocumentedMedia>> }
  readonly responses: Readonly<Record<string, { description: string; content?: Readonly<Record<string, DocumentedMedia>> }>>
  readonly "x-berth-access": string
  readonly "x-berth-errors": readonly string[]
  readonly "x-codeSamples": readonly { source: string }[]
}

export type Html = ReturnType<typeof html>

/** Text in which backticks mark code. */
export const prose = (text: string): Html[] =>
  text.split("`").map((part, i) => (i % 2 === 1 ? html`<code>${part}</code>` : html`${part}`))

export const block = (text: string): Html => html`<pre tabindex="0"><code>${text}</code></pre>`

export function operationArticle(method: string, path: string, operation: DocumentedOperation, schemas: Schemas): Html {
  const body = Object.values(operation.requestBody?.content ?? {})[0]?.schema
  return html`<article id="${operation.operationId}">
    <h3>${operation.summary} <span class="chip">${accessText(operation["x-berth-access"])}</span></h3>
    <p class="address"><span class="method ${method}">${method}</span> ${path}</p>
    <p>${prose(operation.description)}</p>
    ${parameterTable(operation, schemas)}
    ${
      body
        ? html`<h4>Body${operation.requestBody?.required ? "" : " (optional)"}</h4>
            ${fieldTable(fieldsOf(body, schemas))}`
        : ""
    }
    <h4>Example</h4>
    ${block(operation["x-codeSamples"][0]?.source ?? "")} ${answers(operation, schemas)}
    <h4>Errors</h4>
    <ul class="codes">
      ${operation["x-berth-errors"].map((code) => html`<li><a class="chip" href="#problem-${code}">${code}</a></li>`)}
    </ul>
  </article>`
}

function accessText(access: string): string {
  if (access === "public") return "no token"
  if (access === "join-token") return "join token"
  return access === "node-assertion" ? "node assertion" : access
}

function parameterTable({ parameters = [] }: DocumentedOperation, schemas: Schemas): Html | "" {
  if (parameters.length === 0) return ""
  const fields = parameters.map((parameter): Field & { place: string } => {
    const schema = resolve(parameter.schema, schemas)
    const [field] = fieldsOf({ properties: { [parameter.name]: schema } }, schemas)
    return {
      name: parameter.name,
      type: field?.type ?? "",
      required: parameter.required ?? false,
      description: parameter.description ?? schema.description ?? "",
      limits: [parameter.in, field?.limits].filter(Boolean).join(", "),
      place: parameter.in,
    }
  })
  return html`<h4>Parameters</h4>
    ${fieldTable(fields)}`
}

export const fieldTable = (fields: readonly Field[]): Html =>
  html`<div class="scroll">
    <table>
      <thead>
        <tr>
          <th scope="col">Name</th>
          <th scope="col">Type</th>
          <th scope="col">Meaning</th>
        </tr>
      </thead>
      <tbody>
        ${fields.map(fieldRow)}
      </tbody>
    </table>
  </div>`

const fieldRow = ({ name, type, required, description, limits }: Field): Html =>
  html`<tr>
    <td><code>${name}</code>${required ? html` <span class="need">needed</span>` : ""}</td>
    <td><span class="type">${type}</span></td>
    <td>${prose(description)}${limits ? html` <span class="quiet">${description ? "· " : ""}${limits}</span>` : ""}</td>
  </tr>`

/** The good answers; errors have their own list. */
function answers({ responses }: DocumentedOperation, schemas: Schemas): Html[] {
  return Object.entries(responses)
    .filter(([status]) => Number(status) < 400)
    .map(([status, { description, content = {} }]) => {
      const media = Object.entries(content)
      return html`<h4>Answer ${status}</h4>
        <p>${prose(description)}</p>
        ${media.map(([type, { schema, example }]) => {
          const shown = typeof example === "string" ? example : JSON.stringify(example, null, 2)
          return html`<details>
            <summary>${type}${schema ? schemaLink(schema, schemas) : ""}</summary>
            ${block(shown)}
          </details>`
        })}`
    })
}

function schemaLink(schema: JsonSchema, schemas: Schemas): Html | "" {
  if (!schema.$ref) return ""
  const name = schema.$ref.split("/").at(-1) ?? typeOf(schema, schemas)
  return html` · <a href="#schema-${name}">${name}</a>`
}
