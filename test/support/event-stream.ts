/** Reads server-sent events as a browser does, as far as a test needs it. */

export interface ServerSent {
  readonly id: string
  readonly event: string
  readonly data: unknown
}

/** Reads until `enough`, then leaves; without it until the stream ends. */
export async function readEvents(response: Response, enough: (seen: readonly ServerSent[]) => boolean = () => false) {
  const seen: ServerSent[] = []
  await readText(response, (text) => {
    const whole = text.split("\n\n").slice(0, -1)
    seen.splice(0, seen.length, ...whole.flatMap(parse))
    return enough(seen)
  })
  return seen
}

/** Reads a body until `enough` of it is there, then leaves; without it until the end. */
export async function readText(response: Response, enough: (text: string) => boolean = () => false): Promise<string> {
  if (!response.ok || response.body === null) throw new Error(`${response.status}: ${await response.text()}`)
  const reader = response.body.getReader()
  const decoder = new TextDecoder()
  let text = ""
  while (!enough(text)) {
    const { value, done } = await reader.read()
    if (done) return text
    text += decoder.decode(value, { stream: true })
  }
  await reader.cancel()
  return text
}

/** Comments and `retry` carry no event. */
function parse(block: string): ServerSent[] {
  const field = (name: string) => new RegExp(`^${name}: (.*)$`, "m").exec(block)?.[1]
  const [id, event, data] = [field("id"), field("event"), field("data")]
  return id === undefined || event === undefined || data === undefined ? [] : [{ id, event, data: JSON.parse(data) }]
}
