/** Workload identity: what a node asks for on behalf of a container of its own. */
import { AppError } from "../../schema/errors.ts"
import { IDENTITY_SECONDS, IdentityAnswer, IdentityRequest } from "../../schema/identity.ts"
import { RUN_ID, TENANT_ID } from "../examples.ts"
import { authenticateNode } from "../middleware/authenticate-node.ts"
import { operation } from "../operation.ts"

export const identifyRun = operation({
  id: "identifyRun",
  method: "post",
  path: "/v1/nodes/identity",
  tag: "Nodes",
  access: "node-assertion",
  summary: "Sign a container's identity",
  description:
    `A JWT for ${IDENTITY_SECONDS / 60} minutes that says what a container is: tenant, container, run, image and labels. For the ` +
    "node that the run was placed on, while it lives and if its container asked for `identity`. It opens nothing here.",
  body: IdentityRequest,
  answer: {
    status: 200,
    description: "The token.",
    schema: IdentityAnswer,
    example: { token: "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCJ9.…", expires_at: "2026-11-23T18:41:00.000Z" },
  },
  errors: ["not_found"],
  example: { body: { tenant_id: TENANT_ID, run_id: RUN_ID, audience: "https://vault.example" } },
  async handle(c, { body: { tenant_id, run_id, audience } }) {
    const { node } = await authenticateNode(c)
    const message = "must be somebody else's: this platform takes no such token"
    if (audience === c.env.ISSUER)
      throw new AppError("invalid_field", `audience ${message}.`, { errors: [{ pointer: "/audience", message }] })
    const { clock, keyring, peers } = c.var.services
    const { name, ...workload } = await peers.tenant(tenant_id).workload(node.id, run_id)
    const nowMs = clock.now()
    const expiresAtMs = nowMs + IDENTITY_SECONDS * 1000
    const claims = {
      iss: c.env.ISSUER,
      sub: `${tenant_id}:${name ?? workload.container_id}`,
      aud: audience,
      iat: Math.floor(nowMs / 1000),
      exp: Math.floor(expiresAtMs / 1000),
      tenant_id,
      run_id,
      ...workload,
      ...(name !== null && { container_name: name }),
    }
    return { status: 200, body: { token: await keyring.signIdentity(claims, expiresAtMs), expires_at: iso(expiresAtMs) } }
  },
})

const iso = (ms: number) => new Date(ms).toISOString()
