/**
 * The page at `/docs`: the OpenAPI document for people. It is made here, of HTML and one stylesheet, and loads nothing from
 * anywhere: it works without a network, and its content policy allows no script at all.
 */
import { html, raw } from "hono/html"
import type { ErrorCode } from "../../schema/errors.ts"
import { ERRORS } from "../../schema/errors.ts"
import type { AppContext } from "../env.ts"
import { sha256 } from "../hash.ts"
import type { ApiDocument } from "../openapi.ts"
import type { DocumentedOperation, Html } from "./operation-article.ts"
import { fieldTable, operationArticle, prose } from "./operation-article.ts"
import type { Schemas } from "./schema-fields.ts"
import { fieldsOf } from "./schema-fields.ts"
import { STYLE } from "./style.ts"

const MAX_AGE_SECONDS = 300
const ICON =
  "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cpath fill='%230b6e6e' " +
  "d='M1 10h14l-2 5H3zM3 4h4v5H3zM9 4h4v5H9z'/%3E%3C/svg%3E"

interface Listed {
  readonly method: string
  readonly path: string
  readonly operation: DocumentedOperation
}

/** Pages already made, by their document. */
const made = new WeakMap<ApiDocument, { text: string; policy: string }>()

export async function docsPage(c: AppContext, document: ApiDocument): Promise<Response> {
  const page = made.get(document) ?? { text: String(await render(document)), policy: await contentPolicy() }
  made.set(document, page)
  return c.body(page.text, 200, {
    "content-type": "text/html; charset=utf-8",
    "content-security-policy": page.policy,
    "referrer-policy": "no-referrer",
    "cache-control": `public, max-age=${MAX_AGE_SECONDS}`,
  })
}

async function contentPolicy(): Promise<string> {
  const hash = btoa(String.fromCharCode(...(await sha256(STYLE))))
  return `default-src 'none'; style-src 'sha256-${hash}'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`
}

function render(document: ApiDocument): Html {
  const schemas = (document.components?.schemas ?? {}) as Schemas
  const tags = document.tags ?? []
  const operations = listed(document)
  const of = (tag: string) => operations.filter(({ operation }) => operation.tags.includes(tag))
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <title>${document.info.title} API</title>
        <link rel="icon" href="${ICON}" />
        ${raw(`<style>${STYLE}</style>`)}
      </head>
      <body>
        <div class="page">
          <nav aria-label="Contents">
            <a class="brand" href="#top">${document.info.title}</a>
            ${tags.map(({ name }) => navigation(name, of(name)))}
            <h2>Reference</h2>
            <ul>
              <li><a href="#problems">Errors</a></li>
              <li><a href="#schemas">Schemas</a></li>
            </ul>
          </nav>
          <main id="top">
            <h1>${document.info.title} API</h1>
            <p class="lead">${prose(document.info.description ?? "")}</p>
            <p class="quiet">
              Version ${document.info.version} at <code>${document.servers?.[0]?.url ?? ""}</code> ·
              <a href="/openapi.json">OpenAPI 3.1</a> · <a href="/.well-known/jwks.json">public keys</a>
            </p>
            ${tags.map(
              ({ name, description = "" }) =>
                html`<section class="tag" id="tag-${name}">
                  <h2>${name}</h2>
                  <p class="quiet">${prose(description)}</p>
                  ${of(name).map(({ method, path, operation }) => operationArticle(method, path, operation, schemas))}
                </section>`,
            )}
            ${problemSection()} ${schemaSection(schemas)}
          </main>
        </div>
      </body>
    </html>`
}

const listed = (document: ApiDocument): Listed[] =>
  Object.entries(document.paths ?? {}).flatMap(([path, methods]) =>
    Object.entries(methods as Record<string, DocumentedOperation>).map(([method, operation]) => ({ method, path, operation })),
  )

const navigation = (tag: string, operations: readonly Listed[]): Html =>
  html`<h2><a href="#tag-${tag}">${tag}</a></h2>
    <ul>
      ${operations.map(({ operation }) => html`<li><a href="#${operation.operationId}">${operation.summary}</a></li>`)}
    </ul>`

function problemSection(): Html {
  const rows = Object.entries(ERRORS) as [ErrorCode, (typeof ERRORS)[ErrorCode]][]
  return html`<section class="tag" id="problems">
    <h2>Errors</h2>
    <p class="quiet">
      Every error is <code>application/problem+json</code>. Act on <code>code</code>, not on the words: they may change.
    </p>
    <div class="scroll">
      <table>
        <thead>
          <tr>
            <th scope="col">Code</th>
            <th scope="col">Status</th>
            <th scope="col">Meaning</th>
            <th scope="col">Try again later?</th>
          </tr>
        </thead>
        <tbody>
          ${rows.map(
            ([code, { status, title, retryable }]) =>
              html`<tr id="problem-${code}">
                <td><code>${code}</code></td>
                <td>${status}</td>
                <td>${title}.</td>
                <td>${retryable ? "yes" : "no"}</td>
              </tr>`,
          )}
        </tbody>
      </table>
    </div>
  </section>`
}

const schemaSection = (schemas: Schemas): Html =>
  html`<section class="tag" id="schemas">
    <h2>Schemas</h2>
    ${Object.entries(schemas).map(
      ([name, schema]) =>
        html`<article id="schema-${name}">
          <h3>${name}</h3>
          ${schema.description ? html`<p>${prose(schema.description)}</p>` : ""} ${fieldTable(fieldsOf(schema, schemas))}
        </article>`,
    )}
  </section>`
