/** Reads a request's body: counted while it is read, so that nobody can make us hold more than the limit. */
import { MAX_BODY_BYTES } from "../../schema/api.ts"
import { AppError } from "../../schema/errors.ts"

/** `none`: the operation has no body. `optional`: an empty one stands for `{}`. */
export type BodyRule = "none" | "optional" | "required"

export interface ReadBody {
  /** As it came, for the fingerprint of an idempotent call. */
  readonly text: string
  readonly json: unknown
}

/** @throws AppError `body_too_large`, `unsupported_media_type`, `malformed_json` or `bad_request`. */
export async function readBody(request: Request, rule: BodyRule, alsoMedia: readonly string[] = []): Promise<ReadBody> {
  const text = await readText(request)
  if (rule === "none") {
    if (text !== "") throw new AppError("bad_request", "This call takes no body.")
    return { text, json: undefined }
  }
  if (text === "" && rule === "optional") return { text, json: {} }
  const media = (request.headers.get("content-type") ?? "").split(";")[0]?.trim().toLowerCase()
  const accepted = ["application/json", ...alsoMedia]
  if (!accepted.includes(media ?? "")) {
    const detail = `The body must be ${accepted.join(" or ")}, not ${media || "without a content type"}.`
    throw new AppError("unsupported_media_type", detail)
  }
  return { text, json: parse(text) }
}

function parse(text: string): unknown {
  if (text === "") throw new AppError("malformed_json", "The body is empty; this call needs a JSON object.")
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new AppError("malformed_json", `The body is not valid JSON: ${(error as Error).message}.`, { cause: error })
  }
}

async function readText(request: Request): Promise<string> {
  if (Number(request.headers.get("content-length") ?? 0) > MAX_BODY_BYTES) throw tooLarge()
  if (!request.body) return ""
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: false })
  let bytes = 0
  let text = ""
  try {
    for await (const chunk of request.body as ReadableStream<Uint8Array>) {
      bytes += chunk.byteLength
      if (bytes > MAX_BODY_BYTES) throw tooLarge()
      text += decoder.decode(chunk, { stream: true })
    }
    return text + decoder.decode()
  } catch (error) {
    if (error instanceof TypeError) throw new AppError("malformed_json", "The body is not valid UTF-8.", { cause: error })
    throw error
  }
}

const tooLarge = () => new AppError("body_too_large", `The body may have at most ${MAX_BODY_BYTES} bytes.`)
