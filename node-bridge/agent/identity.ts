/**
 * Who this node is: a key made here, which never leaves, and the id that the platform gave it. The key is on disk before the
 * platform hears of it, so that a crash in between enrols the same key again and not a second node.
 */
import { open, readFile, rename } from "node:fs/promises"
import { dirname, join } from "node:path"
import { exportJWK, generateKeyPair, importJWK, SignJWT } from "jose"
import { z } from "zod"
import { CellId, NodeId } from "../../schema/ids.ts"
import { NODE_ASSERTION_SECONDS, NODE_ASSERTION_TYP, NodePublicKey } from "../../schema/node.ts"
import { EXIT, Fault } from "./fault.ts"

const Key = NodePublicKey.extend({ d: z.base64url() })

const Identity = z.strictObject({
  v: z.literal(1),
  key: Key,
  enrolled: z.strictObject({ node_id: NodeId, cell_id: CellId, issuer: z.string() }).nullable(),
})
export type Identity = z.infer<typeof Identity>

const pathIn = (stateDir: string) => join(stateDir, "identity.json")

/** The identity in the state directory; with a fresh key, when there is none. */
export async function loadIdentity(stateDir: string): Promise<Identity> {
  const path = pathIn(stateDir)
  const text = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined
    throw error
  })
  if (text === undefined) {
    const fresh: Identity = { v: 1, key: await makeKey(), enrolled: null }
    await saveIdentity(stateDir, fresh)
    return fresh
  }
  try {
    return Identity.parse(JSON.parse(text))
  } catch (error) {
    const message = `${path} cannot be read as a node's identity; restore it, or delete it and enrol this host anew.`
    throw new Fault(EXIT.host, message, error)
  }
}

export async function saveIdentity(stateDir: string, identity: Identity): Promise<void> {
  const temporary = `${pathIn(stateDir)}.tmp`
  const file = await open(temporary, "w", 0o600)
  try {
    await file.writeFile(`${JSON.stringify(identity)}\n`)
    await file.datasync()
  } finally {
    await file.close()
  }
  await rename(temporary, pathIn(stateDir))
  const dir = await open(dirname(pathIn(stateDir)), "r")
  await dir.sync().finally(() => dir.close())
}

export const publicKeyOf = ({ key }: Identity): NodePublicKey => ({ kty: key.kty, crv: key.crv, x: key.x })

async function makeKey(): Promise<z.infer<typeof Key>> {
  const { privateKey } = await generateKeyPair("EdDSA", { crv: "Ed25519", extractable: true })
  const { kty, crv, x, d } = await exportJWK(privateKey)
  return Key.parse({ kty, crv, x, d })
}

/** Half of what the platform lets it last: a clock that is ahead or behind by the other half still speaks. */
const ASSERTION_LASTS_SECONDS = NODE_ASSERTION_SECONDS / 2

/** Proves to the platform that the caller holds this node's key. */
export async function signAssertion(identity: Identity, nowMs: number, jti: string): Promise<string> {
  if (!identity.enrolled) throw new Error("not enrolled")
  const { node_id, issuer } = identity.enrolled
  const now = Math.floor(nowMs / 1000)
  return new SignJWT({})
    .setProtectedHeader({ alg: "EdDSA", typ: NODE_ASSERTION_TYP, kid: node_id })
    .setIssuer(node_id)
    .setSubject(node_id)
    .setAudience(issuer)
    .setJti(jti)
    .setIssuedAt(now)
    .setExpirationTime(now + ASSERTION_LASTS_SECONDS)
    .sign(await importJWK(identity.key, "EdDSA"))
}
