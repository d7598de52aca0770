/** A webhook receiver on loopback, as somebody would write one with the public library. */
import { createServer, type IncomingHttpHeaders, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { Webhook } from "standardwebhooks"
import { WebhookMessage } from "../../schema/webhooks.ts"

export interface Received {
  readonly id: string
  readonly path: string
  readonly headers: IncomingHttpHeaders
  readonly body: string
  readonly message: WebhookMessage
}

export interface Receiver {
  readonly url: string
  /** In the order in which they came. */
  readonly received: Received[]
  close(): Promise<void>
}

/** `answer` gets each message after it was read; without it, 204. */
export async function openReceiver(answer: (got: Received, response: ServerResponse) => void = accept): Promise<Receiver> {
  const received: Received[] = []
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on("data", (chunk: Buffer) => chunks.push(chunk))
    request.on("end", () => {
      const body = Buffer.concat(chunks).toString()
      const { headers, url: path = "/" } = request
      const message = WebhookMessage.parse(JSON.parse(body))
      const got = { id: String(headers["webhook-id"]), path, headers, body, message }
      received.push(got)
      answer(got, response)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    received,
    close: () => {
      server.closeAllConnections()
      return new Promise((resolve) => server.close(() => resolve()))
    },
  }
}

export function accept(_: Received, response: ServerResponse): void {
  response.writeHead(204).end()
}

/** @throws Error as the library does, when no `v1` signature verifies. */
export function verify(secret: string, { body, headers }: Received): unknown {
  return new Webhook(secret).verify(body, headers as Record<string, string>)
}
