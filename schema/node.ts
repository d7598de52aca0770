/** What a host says of itself: it is the node's word, used for placement and shown to operators, never to tenants. */
import { z } from "zod"
import { DeviceName, Labels, Profile } from "./container.ts"
import { FEATURES } from "./features.ts"
import { CellId, NodeId } from "./ids.ts"

/** What the node offers to runs, its own reserve already taken off. */
export const Capacity = z.strictObject({
  cpus: z.number().positive(),
  memory_bytes: z.int().positive(),
  pids: z.int().positive(),
  runs: z.int().positive(),
  disk_bytes: z.int().positive(),
})
export type Capacity = z.infer<typeof Capacity>

/** An isolation profile whose self-test ran on the node, and what the test saw work under it. */
export const ProfileOffer = z.strictObject({
  name: Profile,
  /** The runtime's program: crun, runc, runsc. */
  runtime: z.string().max(32),
  features: z.array(z.enum(FEATURES)),
})
export type ProfileOffer = z.infer<typeof ProfileOffer>

/** A CDI device of the node. A part of a device excludes the whole, and the whole excludes its parts. */
export const Device = z.strictObject({
  name: DeviceName,
  healthy: z.boolean(),
  reason: z.string().max(256).nullable(),
  /** The device that this one is a part of (MIG); null for a whole one. */
  parent: DeviceName.nullable(),
})
export type Device = z.infer<typeof Device>

/**
 * What a host can find wrong with itself; each keeps new runs away until it has passed. runtime_broken: containers cannot be
 * created here, whatever their image; the runs that go on are left alone.
 */
export const NODE_CONDITIONS = ["disk_pressure", "memory_pressure", "runtime_broken", "shutting_down"] as const
export const NodeCondition = z.strictObject({ kind: z.enum(NODE_CONDITIONS), message: z.string().max(512) })
export type NodeCondition = z.infer<typeof NodeCondition>

export const NodeFacts = z.strictObject({
  hostname: z.string().max(253),
  boot_id: z.string().max(64),
  architecture: z.enum(["amd64", "arm64"]),
  capacity: Capacity,
  labels: Labels,
  profiles: z.array(ProfileOffer).max(8),
  devices: z.array(Device).max(1024),
  /** The most open files that a process here can be given. */
  max_open_files: z.int().positive(),
  /** kernel, crun, runc, conmon, … by name, as each prints its own version. */
  versions: z
    .record(z.string().max(64), z.string().max(256))
    .refine((all) => Object.keys(all).length <= 64, "at most 64 versions"),
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
