/**
 * Workload identity: a container that asked for it finds a socket in its root, and gets there a short-lived JWT that says what
 * it is, for an audience of its choice. Anybody verifies it with the platform's published keys; the platform itself takes none.
 */
import { z } from "zod"
import { RunId, TenantId } from "./ids.ts"

/** Where a container finds it: the directory, and the socket in it. */
export const IDENTITY_DIR = "/run/berth"
export const IDENTITY_SOCKET = "identity.sock"
/** Long enough for a slow verifier and wrong clocks; a new one costs a call. */
export const IDENTITY_SECONDS = 600

/** Visible ASCII: it is part of an address on its way. */
export const Audience = z
  .string()
  .min(1)
  .max(512)
  .regex(/^[\x21-\x7e]+$/, "must be visible ASCII")

/** A node asks for a run that is its own. */
export const IdentityRequest = z
  .strictObject({ tenant_id: TenantId, run_id: RunId, audience: Audience })
  .meta({ id: "IdentityRequest" })
export const IdentityAnswer = z.object({ token: z.string(), expires_at: z.iso.datetime() }).meta({ id: "IdentityAnswer" })
export type IdentityAnswer = z.infer<typeof IdentityAnswer>
