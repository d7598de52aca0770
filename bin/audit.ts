/**
 * `npm run audit -- verify FILE [--jwks FILE]`: checks a saved audit log with nothing but itself and the platform's public keys.
 * FILE holds answers of /v1/audit, one JSON document a line, in the order in which they were read.
 */
import { createHash } from "node:crypto"
import { readFile } from "node:fs/promises"
import { parseArgs } from "node:util"
import { createLocalJWKSet, jwtVerify } from "jose"
import { AuditPage, CHECKPOINT_TYPE, hashedText } from "../schema/audit.ts"

const HELP =
  "Usage: npm run --silent audit -- verify FILE [--jwks FILE]   FILE: answers of /v1/audit, one a line; JWKS: /.well-known/jwks.json\n"
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { jwks: { type: "string" }, help: { type: "boolean" } },
})
const [verb, file] = positionals
if (verb !== "verify" || file === undefined || values.help) {
  process.stderr.write(HELP)
  process.exit(values.help ? 0 : 2)
}

const pages = (await readFile(file, "utf8"))
  .split("\n")
  .filter((line) => line !== "")
  .map((line) => AuditPage.parse(JSON.parse(line)))
const entries = pages.flatMap((page) => page.items)
const hashes = new Map(entries.map(({ seq, hash }) => [seq, hash]))
const faults = entries.flatMap((entry, i) => {
  const before = entries[i - 1]
  const chained = before === undefined || (entry.previous === before.hash && entry.seq === before.seq + 1)
  const own = createHash("sha256").update(hashedText(entry)).digest("hex") === entry.hash
  return [
    ...(chained ? [] : [`entry ${entry.seq} does not follow the one before it`]),
    ...(own ? [] : [`entry ${entry.seq} was changed`]),
  ]
})
if (values.jwks === undefined)
  console.warn("Without --jwks the checkpoints are not checked: a log that was written anew would pass.")
else {
  const keys = createLocalJWKSet(JSON.parse(await readFile(values.jwks, "utf8")))
  for (const { checkpoint } of pages) {
    const { payload } = await jwtVerify<{ seq: number; hash: string }>(checkpoint, keys, {
      typ: CHECKPOINT_TYPE,
      algorithms: ["EdDSA"],
    }).catch(() => ({ payload: null }))
    if (payload === null) faults.push("a checkpoint is not signed by these keys")
    else if (payload.seq > 0 && hashes.get(payload.seq) !== payload.hash)
      faults.push(`entry ${payload.seq}, which a checkpoint names, is missing or another`)
  }
}
for (const fault of faults) console.error(fault)
console.log(
  faults.length > 0
    ? `${file} is not what was written.`
    : `${entries.length} entries, unbroken from ${entries[0]?.seq ?? 0} to ${entries.at(-1)?.seq ?? 0}.`,
)
process.exitCode = faults.length > 0 ? 1 : 0
