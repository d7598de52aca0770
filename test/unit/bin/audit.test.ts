/** The offline check of a saved audit log, as an auditor runs it. */
import { execFileSync } from "node:child_process"
import { createHash } from "node:crypto"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { importJWK, SignJWT } from "jose"
import { afterAll, describe, expect, it } from "vitest"
import { AUDIT_GENESIS, type AuditEntry, type AuditPage, CHECKPOINT_TYPE, hashedText } from "../../../schema/audit.ts"
import { TEST_SIGNING_KEY } from "../../support/signing-key.ts"

const ROOT = join(import.meta.dirname, "../../..")
const dir = mkdtempSync(join(tmpdir(), "audit-"))
afterAll(() => rmSync(dir, { recursive: true }))

const { kid, d: _d, ...publicKey } = TEST_SIGNING_KEY
const jwks = join(dir, "jwks.json")
writeFileSync(jwks, JSON.stringify({ keys: [{ ...publicKey, kid, alg: "EdDSA", use: "sig" }] }))

function entries(count: number): AuditEntry[] {
  const made: AuditEntry[] = []
  for (let seq = 1; seq <= count; seq++) {
    const entry = {
      seq, time: "2026-11-23T18:30:01.302Z", subject: "ci", token_id: "tok_1", request_id: `req_${seq}`,
      operation: "createContainer", target: `ctr_${seq}`, result: "ok", previous: made.at(-1)?.hash ?? AUDIT_GENESIS,
    } // prettier-ignore
    made.push({ ...entry, hash: createHash("sha256").update(hashedText(entry)).digest("hex") })
  }
  return made
}

async function checkpoint({ seq, hash }: Pick<AuditEntry, "seq" | "hash">, typ = CHECKPOINT_TYPE): Promise<string> {
  const { kid: id, ...key } = TEST_SIGNING_KEY
  return new SignJWT({ seq, hash }).setProtectedHeader({ alg: "EdDSA", typ, kid: id }).sign(await importJWK(key, "EdDSA"))
}

function verify(pages: AuditPage[], ...more: string[]): { code: number; said: string } {
  const file = join(dir, "log")
  writeFileSync(file, pages.map((page) => `${JSON.stringify(page)}\n`).join(""))
  try {
    const said = execFileSync(process.execPath, ["bin/audit.ts", "verify", file, "--jwks", jwks, ...more], {
      cwd: ROOT,
      encoding: "utf8",
      stdio: "pipe",
    })
    return { code: 0, said }
  } catch (error) {
    const { status, stdout, stderr } = error as { status: number; stdout: string; stderr: string }
    return { code: status, said: stdout + stderr }
  }
}

describe("a saved audit log", () => {
  const all = entries(6)
  const aPage = async (items: AuditEntry[], last = items.at(-1) ?? all[0]): Promise<AuditPage> => ({
    items,
    next_cursor: null,
    checkpoint: await checkpoint(last ?? { seq: 0, hash: "" }),
  })

  it("is unbroken as it was read, over pages, and from any entry on", async () => {
    expect(verify([await aPage(all.slice(0, 3)), await aPage(all.slice(3))])).toEqual({
      code: 0,
      said: "6 entries, unbroken from 1 to 6.\n",
    })
    expect(verify([await aPage(all.slice(2))]).code).toBe(0)
  })

  it.each<[string, AuditEntry[], string]>([
    ["changed", all.map((entry) => (entry.seq === 3 ? { ...entry, subject: "nobody" } : entry)), "entry 3 was changed"],
    ["cut", all.filter(({ seq }) => seq !== 3), "entry 4 does not follow the one before it"],
    ["moved", all.toSpliced(2, 2, ...all.slice(2, 4).toReversed()), "entry 4 does not follow the one before it"],
    ["cut off at the end", all.slice(0, 4), "entry 6, which a checkpoint names, is missing or another"],
  ])("shows that a line was %s", async (_, items, fault) => {
    const { code, said } = verify([await aPage(items, all[5])])
    expect([code, said]).toEqual([1, expect.stringContaining(fault)])
  })

  it("shows that all of it was written anew, for nobody else can sign the checkpoint", async () => {
    const forged = entries(5)
    const page = { items: forged, next_cursor: null }
    const unsigned = (await checkpoint(forged[4] as AuditEntry)).replace(/\.[^.]*$/, ".AAAA")
    expect(verify([{ ...page, checkpoint: unsigned }]).said).toContain("a checkpoint is not signed by these keys")
    const token = await checkpoint(forged[4] as AuditEntry, "at+jwt")
    expect(verify([{ ...page, checkpoint: token }]).said).toContain("a checkpoint is not signed by these keys")
  })
})
