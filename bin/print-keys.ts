/** `npm run keys`: what a deployed platform needs before its API can be asked for anything. Prints to stdout, stores nothing. */
import { readFile } from "node:fs/promises"
import type { JWK } from "jose"
import { makeSecretsKey, makeSigningKey, signOperatorToken } from "./keys.ts"

const HELP = `Usage: npm run --silent keys                                  print a new signing key (private JWK)
       npm run --silent keys -- secrets                       print a new key that seals tenants' secrets
       npm run --silent keys -- operator-token FILE URL      print a 90-day operator's token for the platform at URL
`
const OPERATOR_TOKEN_SECONDS = 90 * 86_400

const [verb, file, url, ...rest] = process.argv.slice(2)
if (verb === undefined) {
  console.log(JSON.stringify(await makeSigningKey()))
} else if (verb === "secrets" && file === undefined) {
  console.log(makeSecretsKey())
} else if (verb === "operator-token" && file !== undefined && url !== undefined && URL.canParse(url) && rest.length === 0) {
  console.log(await signOperatorToken(await keyIn(file), url.replace(/\/$/, ""), "operator", OPERATOR_TOKEN_SECONDS))
} else {
  process.stderr.write(HELP)
  process.exitCode = verb === "--help" ? 0 : 2
}

async function keyIn(path: string): Promise<JWK> {
  try {
    return JSON.parse(await readFile(path, "utf8")) as JWK
  } catch (error) {
    console.error(`keys: ${path} cannot be read as a signing key (${error instanceof Error ? error.message : String(error)}).`)
    process.exit(1)
  }
}
