/**
 * Every way Berth says no. One table maps a stable code to its HTTP status, whether the same call may succeed later, and
 * the sentence a person reads. Pure code returns a `Result`; shells throw an `AppError`; the edge turns it into RFC 9457
 * `application/problem+json`.
 */

export interface ErrorRow {
  readonly status: number
  /** True when repeating the same call later may succeed. */
  readonly retryable: boolean
  readonly title: string
}

export const ERRORS = {
  malformed_json: { status: 400, retryable: false, title: "The body is not valid JSON" },
  bad_request: { status: 400, retryable: false, title: "The request cannot be read" },
  unauthenticated: { status: 401, retryable: false, title: "A valid token is needed" },
  token_expired: { status: 401, retryable: false, title: "The token has expired" },
  forbidden: { status: 403, retryable: false, title: "The token does not allow this" },
  policy_refused: { status: 403, retryable: false, title: "The operator's policy does not allow this" },
  not_found: { status: 404, retryable: false, title: "There is no such thing" },
  method_not_allowed: { status: 405, retryable: false, title: "This address does not take that method" },
  wait_timeout: { status: 408, retryable: true, title: "The status was not reached in time" },
  name_taken: { status: 409, retryable: false, title: "The name is already in use" },
  action_not_allowed: { status: 409, retryable: false, title: "What it is about does not allow this now" },
  never_reached: { status: 409, retryable: false, title: "The status cannot be reached any more" },
  idempotency_in_progress: { status: 409, retryable: true, title: "The first call with this key is still running" },
  body_too_large: { status: 413, retryable: false, title: "The body is too large" },
  unsupported_media_type: { status: 415, retryable: false, title: "The body must be application/json" },
  invalid_field: { status: 422, retryable: false, title: "A field is wrong" },
  idempotency_mismatch: { status: 422, retryable: false, title: "This key was used with another request" },
  rate_limited: { status: 429, retryable: true, title: "Too many calls" },
  quota_exceeded: { status: 429, retryable: true, title: "The tenant's quota is used up" },
  internal: { status: 500, retryable: true, title: "Something failed on our side" },
  node_unreachable: { status: 503, retryable: true, title: "The container's node cannot be reached now" },
  unavailable: { status: 503, retryable: true, title: "The platform cannot answer now" },
  no_capacity: { status: 507, retryable: true, title: "No node can hold this container now" },
} as const satisfies Record<string, ErrorRow>

export type ErrorCode = keyof typeof ERRORS

/** One wrong field: where it is (RFC 6901 JSON pointer, or `?name` for a query parameter) and what to do about it. */
export interface FieldError {
  readonly pointer: string
  readonly message: string
}

/** The one error that shells throw. Its own properties survive Workers RPC; `asAppError` restores the class. */
export class AppError extends Error {
  readonly code: ErrorCode
  readonly errors: readonly FieldError[]

  constructor(code: ErrorCode, detail: string, options: { errors?: readonly FieldError[]; cause?: unknown } = {}) {
    super(detail, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = "AppError"
    this.code = code
    this.errors = options.errors ?? []
  }
}

/** Restores an `AppError` that crossed Workers RPC as a plain error with our properties; anything else is `undefined`. */
export function asAppError(error: unknown): AppError | undefined {
  if (error instanceof AppError) return error
  if (!(error instanceof Error) || !("code" in error) || typeof error.code !== "string") return undefined
  if (!Object.hasOwn(ERRORS, error.code)) return undefined
  const errors = "errors" in error && Array.isArray(error.errors) ? (error.errors as FieldError[]) : []
  return new AppError(error.code as ErrorCode, error.message, { errors, cause: error })
}

export type Result<T, E> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly error: E }
export const ok = <T>(value: T): { readonly ok: true; readonly value: T } => ({ ok: true, value })
export const err = <E>(error: E): { readonly ok: false; readonly error: E } => ({ ok: false, error })
