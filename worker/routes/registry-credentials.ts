/** What tenants log in to registries with. */
import { z } from "zod"
import { page } from "../../schema/api.ts"
import { RegistryCredentialId } from "../../schema/ids.ts"
import {
  MAX_REGISTRY_CREDENTIALS, RegistryCredential, RegistryCredentialCreate, RegistryLogin, RegistryLoginRequest,
} from "../../schema/registry-credentials.ts" // prettier-ignore
import { REGISTRY_CREDENTIAL_ID, registryCredential, RUN_ID, TENANT_ID } from "../examples.ts"
import { authenticateNode } from "../middleware/authenticate-node.ts"
import { operation, tenantOf } from "../operation.ts"

const Path = z.object({ id: RegistryCredentialId.meta({ examples: [REGISTRY_CREDENTIAL_ID] }) })

export const createRegistryCredential = operation({
  id: "createRegistryCredential",
  method: "post",
  path: "/v1/registry-credentials",
  tag: "Images",
  access: "images:write",
  idempotency: "directory",
  summary: "Store a registry credential",
  description:
    "A container names it as `registry_credential`, and the node that is about to pull the container's image logs in with it. " +
    "The password is sealed with a key that is in no database, and nobody can read it again.",
  body: RegistryCredentialCreate,
  answer: {
    status: 201,
    description: "The credential, without its password.",
    schema: RegistryCredential,
    example: registryCredential,
  },
  errors: ["quota_exceeded"],
  example: { body: { registry: "registry.example", username: "ci", password: "a token of the registry" } },
  async handle(c, { body, ids }) {
    return { status: 201, body: await tenantOf(c).createRegistryCredential(ids.make("rgc"), body) }
  },
})

export const listRegistryCredentials = operation({
  id: "listRegistryCredentials",
  method: "get",
  path: "/v1/registry-credentials",
  tag: "Images",
  access: "images:read",
  summary: "List registry credentials",
  description: `Without their passwords, oldest first, all on one page: there are ${MAX_REGISTRY_CREDENTIALS} at most.`,
  answer: {
    status: 200,
    description: "The credentials.",
    schema: page(RegistryCredential, "RegistryCredentialPage"),
    example: { items: [registryCredential], next_cursor: null },
  },
  errors: [],
  example: {},
  handle: async (c) => ({ status: 200, body: await tenantOf(c).listRegistryCredentials() }),
})

export const removeRegistryCredential = operation({
  id: "removeRegistryCredential",
  method: "delete",
  path: "/v1/registry-credentials/{id}",
  tag: "Images",
  access: "images:write",
  idempotency: "directory",
  summary: "Remove a registry credential",
  description: "What runs goes on. A later pull for a container that names it fails, and the container says why.",
  params: Path,
  answer: { status: 204, description: "It is gone." },
  errors: ["not_found"],
  example: { params: { id: REGISTRY_CREDENTIAL_ID } },
  async handle(c, { params: { id } }) {
    await tenantOf(c).removeRegistryCredential(id)
    return { status: 204, body: null }
  },
})

export const registryLogin = operation({
  id: "registryLogin",
  method: "post",
  path: "/v1/nodes/registry-login",
  tag: "Nodes",
  access: "node-assertion",
  summary: "Fetch the credential for a pull",
  description: "For a node that is about to pull the image of a run that was placed there and lives; of no other run.",
  body: RegistryLoginRequest,
  answer: {
    status: 200,
    description: "What to log in with. Keep it for this pull alone.",
    schema: RegistryLogin,
    example: { registry: "registry.example", username: "ci", password: "a token of the registry" },
  },
  errors: ["not_found"],
  example: { body: { tenant_id: TENANT_ID, run_id: RUN_ID } },
  async handle(c, { body: { tenant_id, run_id } }) {
    const { node } = await authenticateNode(c)
    return { status: 200, body: await c.var.services.peers.tenant(tenant_id).registryLogin(node.id, run_id) }
  },
})

export const registryCredentialOperations = [
  createRegistryCredential,
  listRegistryCredentials,
  removeRegistryCredential,
  registryLogin,
]
