/** The product's own objects behind a door for benches: what is asked of a cell's object comes in as JSON, its answer goes out so. */
import type { Env } from "../../../durable/shared/ports.ts"
import { peersOf } from "../../../durable/shared/ports.ts"
import type { CellCall, DoorCall } from "./calls.ts"
import { runTrial } from "./trial.ts"

export { CellObject } from "../../../durable/cell/object.ts"
export { NodeObject } from "../../../durable/node/object.ts"
export { TenantObject } from "../../../durable/tenant/object.ts"

export default {
  async fetch(request: Request, env: Env): Promise<Response> {
    const asked = await request.json<DoorCall>()
    if (asked.kind === "trial") return Response.json(runTrial(asked.trial))
    return Response.json(await Promise.all(asked.calls.map((call) => made(call, env))))
  },
}

/** In order: an object hears the calls of one caller as they were made. */
async function made({ cell, method, args }: CellCall, env: Env): Promise<unknown> {
  const object = peersOf(env).cell(cell) as unknown as Record<string, (...args: readonly unknown[]) => Promise<unknown>>
  return (await object[method]?.(...args)) ?? null
}
