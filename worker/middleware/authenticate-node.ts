/** Which node calls, by an assertion that it signed with its own key. */
import { AppError } from "../../schema/errors.ts"
import type { NodeRow } from "../directory.ts"
import type { AppContext } from "../env.ts"
import { importPublicKey, type VerifiedAssertion, verifyNodeAssertion } from "../tokens.ts"
import { bearerToken } from "./authenticate.ts"

/** The node whose key signed the assertion. @throws AppError `unauthenticated` or `token_expired`. */
export async function authenticateNode(c: AppContext): Promise<{ node: NodeRow; assertion: VerifiedAssertion }> {
  const { clock, directory } = c.var.services
  const found = new Map<string, NodeRow>()
  const keys = async (kid: string) => {
    const row = await directory.node(kid)
    if (!row || row.forgotten) return undefined
    found.set(kid, row)
    return importPublicKey(row.publicKeyX)
  }
  const assertion = await verifyNodeAssertion(bearerToken(c), c.env.ISSUER, keys, clock.now())
  const node = found.get(assertion.node)
  if (!node) throw new AppError("unauthenticated", "The assertion names no node of this platform.")
  return { node, assertion }
}
