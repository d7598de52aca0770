/** `npm run keys`: the keys that a deployed platform needs, before its API can be asked for anything and later. Stores nothing. */
import { readFile } from "node:fs/promises"
import type { JWK } from "jose"
import { makeSecretsKey, makeSigningKey, signOperatorToken } from "./keys.ts"

const HELP = `Usage: npm run --silent keys                                  print a new signing key (private JWK)
       npm run --silent keys -- secrets                       print a new key that seals tenants' secrets
       npm run --silent keys -- operator-token FILE URL      print a 90-day operator's token for the platform at URL
       npm run --silent keys -- rotate                       have the platform make its next signing key (of tokens), and print it;
                                                              reads BERTH_URL and BERTH_OPERATOR_TOKEN
`
const OPERATOR_TOKEN_SECONDS = 90 * 86_400

const [verb, file, platform, ...rest] = process.argv.slice(2)
if (verb === undefined) {
  console.log(JSON.stringify(await makeSigningKey()))
} else if (verb === "secrets" && file === undefined) {
  console.log(makeSecretsKey())
} else if (
  verb === "operator-token" &&
  file !== undefined &&
  platform !== undefined &&
  URL.canParse(platform) &&
  rest.length === 0
) {
  console.log(await signOperatorToken(await keyIn(file), platform.replace(/\/$/, ""), "operator", OPERATOR_TOKEN_SECONDS))
} else if (verb === "rotate" && file === undefined) {
  await rotate(process.env.BERTH_URL, process.env.BERTH_OPERATOR_TOKEN)
} else {
  process.stderr.write(HELP)
  process.exitCode = verb === "--help" ? 0 : 2
}

/** The platform makes the key itself: its private half is nowhere but there. */
async function rotate(url: string | undefined, token: string | undefined): Promise<void> {
  if (url === undefined || !URL.canParse(url) || token === undefined)
    return fail("set BERTH_URL and BERTH_OPERATOR_TOKEN, as `. .berth/env` does")
  try {
    const headers = { authorization: `Bearer ${token}` }
    const answer = await fetch(new URL("/v1/admin/signing-keys", url), { method: "POST", headers })
    if (!answer.ok) return fail(`${url} answers ${answer.status}: ${await answer.text()}`)
    console.log(await answer.text())
  } catch (error) {
    fail(`${url} does not answer (${error instanceof Error ? error.message : String(error)})`)
  }
}

function fail(why: string): void {
  console.error(`keys: ${why}.`)
  process.exitCode = 1
}

async function keyIn(path: string): Promise<JWK> {
  try {
    return JSON.parse(await readFile(path, "utf8")) as JWK
  } catch (error) {
    console.error(`keys: ${path} cannot be read as a signing key (${error instanceof Error ? error.message : String(error)}).`)
    process.exit(1)
  }
}
