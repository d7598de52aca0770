/** What a host says of itself: it is the node's word, used for placement and shown to operators, never to tenants. */
import { z } from "zod"
import { Labels, Profile } from "./container.ts"
import { CellId, NodeId } from "./ids.ts"

/** What the node offers to runs, its own reserve already taken off. */
export const Capacity = z.strictObject({
  cpus: z.number().positive(),
  memory_bytes: z.int().positive(),
  pids: z.int().positive(),
  runs: z.int().positive(),
})
export type Capacity = z.infer<typeof Capacity>

export const NodeFacts = z.strictObject({
  hostname: z.string().max(253),
  boot_id: z.string().max(64),
  architecture: z.enum(["amd64", "arm64"]),
  capacity: Capacity,
  labels: Labels,
  /** Only profiles whose self-test ran on this node. */
  profiles: z.array(Profile),
  /** kernel, crun, runc, conmon, … by name, as each prints its own version. */
  versions: z.record(z.string(), z.string().max(256)),
})
export type NodeFacts = z.infer<typeof NodeFacts>

/** An Ed25519 public key (RFC 8037). The private half never leaves the host. */
export const NodePublicKey = z.strictObject({ kty: z.literal("OKP"), crv: z.literal("Ed25519"), x: z.base64url().length(43) })
export type NodePublicKey = z.infer<typeof NodePublicKey>

export const EnrollRequest = z
  .strictObject({ join_token: z.string().max(256), public_key: NodePublicKey, hostname: z.string().max(253) })
  .meta({ id: "EnrollRequest" })
export type EnrollRequest = z.infer<typeof EnrollRequest>

export const EnrollAnswer = z
  .object({
    node_id: NodeId,
    cell_id: CellId,
    issuer: z.string().max(512).meta({ description: "`aud` of the node's assertions." }),
  })
  .meta({ id: "EnrollAnswer" })
export type EnrollAnswer = z.infer<typeof EnrollAnswer>

/**
 * A node proves itself with a JWT of its own key: `typ: node-assertion+jwt`, `alg: EdDSA`, `kid`, `iss` and `sub` the node
 * id, `aud` the platform's issuer, `jti`, and an expiry at most this far ahead.
 */
export const NODE_ASSERTION_TYP = "node-assertion+jwt"
export const NODE_ASSERTION_SECONDS = 60
