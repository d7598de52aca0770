/** The little of an HTTP client that the start and the benches need: JSON in, JSON out, a problem as an error with its own words. */

export interface Client {
  readonly url: string
  get<T>(path: string): Promise<T>
  post<T>(path: string, body?: unknown): Promise<T>
  delete<T>(path: string): Promise<T>
  text(path: string): Promise<string>
}

/** An answer outside 2xx; `code` is the problem's. */
export class ProblemError extends Error {
  readonly status: number
  readonly code: string
  constructor(status: number, code: string, message: string) {
    super(message)
    this.name = "ProblemError"
    this.status = status
    this.code = code
  }
}

/** The platform is on this machine: packing an answer and unpacking it costs both sides more than its bytes do, 0.5 ms. */
const AS_IT_IS = { "accept-encoding": "identity" }

const json = async <T>(response: Promise<Response>): Promise<T> => (await (await response).json()) as T

export function clientOf(url: string, token: string): Client {
  const call = async (method: string, path: string, body?: unknown): Promise<Response> => {
    const response = await fetch(url + path, {
      method,
      headers: {
        authorization: `Bearer ${token}`,
        ...AS_IT_IS,
        ...(body === undefined ? {} : { "content-type": "application/json" }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    if (response.ok) return response
    const problem = (await response.json().catch(() => ({}))) as { code?: string; detail?: string; title?: string }
    throw new ProblemError(
      response.status,
      problem.code ?? "unknown",
      `${method} ${path}: ${problem.detail ?? problem.title ?? response.statusText}`,
    )
  }
  return {
    url,
    get: (path) => json(call("GET", path)),
    post: (path, body) => json(call("POST", path, body)),
    delete: (path) => json(call("DELETE", path)),
    text: async (path) => await (await call("GET", path)).text(),
  }
}
