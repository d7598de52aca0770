/** How a refusal leaves the worker: RFC 9457 problem details, with the headers that its status asks for. */
import type { z } from "zod"
import type { Problem } from "../schema/api.ts"
import type { ErrorCode, FieldError } from "../schema/errors.ts"
import { AppError, asAppError, ERRORS } from "../schema/errors.ts"
import type { AppContext } from "./env.ts"

export const PROBLEM_MEDIA = "application/problem+json"
/** What a client should wait before it repeats a call that may succeed later. */
const RETRY_AFTER_SECONDS = 1

/** A refusal that needs a header beside its body, such as `Allow`. */
export class Refusal extends AppError {
  readonly headers: Readonly<Record<string, string>>

  constructor(code: ErrorCode, detail: string, headers: Record<string, string>) {
    super(code, detail)
    this.headers = headers
  }
}

/** Where a code is explained; the address is relative, so that it is true on every platform. */
export const problemType = (code: ErrorCode): string => `/docs#problem-${code}`

export function problemOf(error: AppError, requestId: string): z.infer<typeof Problem> {
  const { status, retryable, title } = ERRORS[error.code]
  return {
    type: problemType(error.code),
    title,
    status,
    detail: error.message,
    code: error.code,
    retryable,
    errors: error.errors.map(({ pointer, message }: FieldError) => ({ pointer, message })),
    request_id: requestId,
  }
}

/** The answer for anything that was thrown. What nobody expected is logged with the request's id and shown without detail. */
export function respondError(c: AppContext, thrown: unknown, more: object = {}): Response {
  const error = asAppError(thrown) ?? passing(thrown)
  if (!error) {
    console.error(`${c.var.requestId} ${c.req.method} ${new URL(c.req.url).pathname} failed`, thrown)
    return respondError(c, new AppError("internal", "The request failed unexpectedly. Its id helps us to find out why."))
  }
  const problem = problemOf(error, c.var.requestId)
  return c.body(JSON.stringify({ ...problem, ...more }), problem.status as 400, {
    "content-type": PROBLEM_MEDIA,
    ...headersOf(error),
    ...(thrown instanceof Refusal && thrown.headers),
  })
}

/** An object that is overloaded, or was restarted under a call: the platform's own words for `try again`. */
function passing(thrown: unknown): AppError | undefined {
  if (!(thrown instanceof Error)) return undefined
  const marks = thrown as { retryable?: unknown; overloaded?: unknown; durableObjectReset?: unknown }
  if (marks.retryable !== true && marks.overloaded !== true && marks.durableObjectReset !== true) return undefined
  console.warn("an object did not answer", thrown)
  return new AppError("unavailable", "The part of the platform that holds this did not answer; try again.", { cause: thrown })
}

function headersOf(error: AppError): Record<string, string> {
  const { status, retryable } = ERRORS[error.code]
  if (status === 401) return { "www-authenticate": challenge(error) }
  return retryable && status !== 500 ? { "retry-after": String(RETRY_AFTER_SECONDS) } : {}
}

/** RFC 6750, section 3: a caller without any token is told only the scheme. */
function challenge(error: AppError): string {
  if (error instanceof MissingToken) return 'Bearer realm="berth"'
  return `Bearer realm="berth", error="invalid_token", error_description="${error.message.replaceAll(/["\\\r\n]/g, "'")}"`
}

/** No `Authorization: Bearer …` at all. */
export class MissingToken extends AppError {
  constructor() {
    super("unauthenticated", "Send a token as `Authorization: Bearer …`.")
  }
}
