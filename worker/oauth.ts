/**
 * What the endpoints of OAuth have in common, where its RFCs say otherwise than the rest of the API: forms instead of JSON
 * (RFC 6749, appendix B), parameters that nobody knows are passed over (section 3.2), and errors have a form of their own (5.2).
 */
import { z } from "zod"
import { asAppError } from "../schema/errors.ts"
import type { AppContext } from "./env.ts"

/** RFC 6749, section 5.2; RFC 8693, section 2.2.2; RFC 9396, section 5; RFC 9449, section 5; and 4.1.2.1 for our own faults. */
const STATUS = {
  invalid_request: 400,
  invalid_client: 401,
  invalid_scope: 400,
  invalid_target: 400,
  invalid_authorization_details: 400,
  invalid_dpop_proof: 400,
  unsupported_grant_type: 400,
  temporarily_unavailable: 503,
  server_error: 500,
} as const
export const OAUTH_CODES = Object.keys(STATUS) as [keyof typeof STATUS, ...(keyof typeof STATUS)[]]
export type OAuthCode = keyof typeof STATUS
export const OAUTH_STATUSES = [...new Set(Object.values(STATUS))]

export const OAuthProblem = z
  .object({ error: z.enum(OAUTH_CODES), error_description: z.string() })
  .meta({ id: "OAuthError", description: "RFC 6749, section 5.2." })

export class OAuthError extends Error {
  readonly code: OAuthCode

  constructor(code: OAuthCode, description: string, options?: ErrorOptions) {
    super(description, options)
    this.name = "OAuthError"
    this.code = code
  }
}

const FORM = "application/x-www-form-urlencoded"
/** Two tokens and what is asked for. */
const MAX_FORM_BYTES = 64 * 1024

/** The parameters, each of which may come once; an empty one counts as left out (section 3.2). @throws OAuthError. */
async function readForm(request: Request): Promise<Record<string, string>> {
  const media = (request.headers.get("content-type") ?? "").split(";")[0]?.trim().toLowerCase()
  if (media !== FORM) throw new OAuthError("invalid_request", `The body must be ${FORM}.`)
  const text = await boundedText(request, MAX_FORM_BYTES)
  if (text === undefined) throw new OAuthError("invalid_request", `The body may have at most ${MAX_FORM_BYTES} bytes.`)
  const form: Record<string, string> = Object.create(null)
  for (const [name, value] of new URLSearchParams(text)) {
    if (name in form) throw new OAuthError("invalid_request", `The parameter ${name} comes more than once.`)
    if (value !== "") form[name] = value
  }
  return { ...form }
}

/** The body as text, or undefined when it has more bytes; it is counted while it is read. */
export async function boundedText(body: Request | Response, maxBytes: number): Promise<string | undefined> {
  const decoder = new TextDecoder()
  let bytes = 0
  let text = ""
  for await (const chunk of (body.body ?? []) as AsyncIterable<Uint8Array>) {
    bytes += chunk.byteLength
    if (bytes > maxBytes) return undefined
    text += decoder.decode(chunk, { stream: true })
  }
  return text + decoder.decode()
}

/** Reads the form and answers as the RFCs say, whatever happens. */
export async function runOAuth<F extends z.ZodType>(
  c: AppContext,
  schema: F,
  handle: (form: z.output<F>) => Promise<object>,
): Promise<Response> {
  try {
    const form = schema.safeParse(await readForm(c.req.raw))
    if (!form.success) {
      const [issue] = form.error.issues
      throw new OAuthError("invalid_request", `${issue?.path.join(".")}: ${issue?.message}`)
    }
    return c.json(await handle(form.data))
  } catch (thrown) {
    return respond(c, oauthErrorOf(thrown) ?? unexpected(c, thrown))
  }
}

function oauthErrorOf(thrown: unknown): OAuthError | undefined {
  if (thrown instanceof OAuthError) return thrown
  const error = asAppError(thrown)
  if (error?.code === "unavailable" || error?.code === "quota_exceeded")
    return new OAuthError("temporarily_unavailable", error.message, { cause: thrown })
  // Whatever is wrong with a token that was handed in (RFC 8693, section 2.2.2).
  if (error && error.code !== "internal") return new OAuthError("invalid_request", error.message, { cause: thrown })
  return undefined
}

function unexpected(c: AppContext, thrown: unknown): OAuthError {
  console.error(`${c.var.requestId} ${c.req.method} ${c.req.path} failed`, thrown)
  return new OAuthError("server_error", `The request failed unexpectedly. Its id, ${c.var.requestId}, helps us to find out why.`)
}

function respond(c: AppContext, error: OAuthError): Response {
  // The characters that section 5.2 allows.
  const error_description = error.message.replaceAll('"', "'").replaceAll(/[^\x20-\x7e]|\\/g, "?")
  return c.json({ error: error.code, error_description }, STATUS[error.code])
}
