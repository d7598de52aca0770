/** The keys that sign the platform's tokens, and how an operator puts another in their place without anybody's noticing. */
import { z } from "zod"
import { OPERATOR_SCOPE, page } from "../../schema/api.ts"
import { AppError } from "../../schema/errors.ts"
import { JWKS_MAX_AGE_SECONDS, type KeyView, MAX_AGE_MS } from "../keyring.ts"
import { operation } from "../operation.ts"

const KID = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"

const SigningKey = z
  .object({
    kid: z.string(),
    x: z.string().meta({ description: "The public half (RFC 8037)." }),
    state: z
      .enum(["next", "signing", "verifying"])
      .meta({ description: "verifying: until the last token that it signed has expired." }),
    signs_from: z.iso
      .datetime()
      .nullable()
      .meta({ description: "null: the platform's first key, which is its secret SIGNING_KEY." }),
  })
  .meta({ id: "SigningKey" })

const viewOf = ({ kid, x, state, signsFromMs }: KeyView): z.infer<typeof SigningKey> => ({
  kid,
  x,
  state,
  signs_from: signsFromMs === null ? null : new Date(signsFromMs).toISOString(),
})
const example: z.infer<typeof SigningKey> = {
  kid: KID,
  x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
  state: "next",
  signs_from: "2026-11-23T18:36:00.000Z",
}

const KeyPath = z.object({
  kid: z
    .string()
    .min(1)
    .max(128)
    .meta({ examples: [KID] }),
})

const listSigningKeys = operation({
  id: "listSigningKeys",
  method: "get",
  path: "/v1/admin/signing-keys",
  tag: "Operators",
  access: OPERATOR_SCOPE,
  summary: "List signing keys",
  description: "All that tokens are signed and verified with now, on one page.",
  answer: {
    status: 200,
    description: "The keys.",
    schema: page(SigningKey, "SigningKeyPage"),
    example: { items: [example], next_cursor: null },
  },
  errors: [],
  example: {},
  handle: async (c) => ({ status: 200, body: { items: (await c.var.services.keyring.keys()).map(viewOf), next_cursor: null } }),
})

const rotateSigningKey = operation({
  id: "rotateSigningKey",
  method: "post",
  path: "/v1/admin/signing-keys",
  tag: "Operators",
  access: OPERATOR_SCOPE,
  summary: "Rotate the signing key",
  description:
    `Makes the next key. It is published at once and begins to sign when everybody who holds the key set for ` +
    `${JWKS_MAX_AGE_SECONDS / 60} minutes has had to read it anew; the one before verifies until the last of its tokens has expired.`,
  answer: { status: 201, description: "The next key.", schema: SigningKey, example },
  errors: [],
  example: {},
  handle: async (c) => ({ status: 201, body: viewOf(await c.var.services.keyring.rotate()) }),
})

const distrustSigningKey = operation({
  id: "distrustSigningKey",
  method: "delete",
  path: "/v1/admin/signing-keys/{kid}",
  tag: "Operators",
  access: OPERATOR_SCOPE,
  summary: "Distrust a signing key",
  description:
    `For one that others may have. Every token that it signed is refused, within ${MAX_AGE_MS / 1000} seconds everywhere, and it ` +
    "never counts again. If it is the one that signs, SIGNING_KEY does until the next has its turn. SIGNING_KEY itself is changed " +
    "where the platform's secrets are; then the one before can be distrusted here.",
  params: KeyPath,
  answer: { status: 204, description: "It is distrusted." },
  errors: ["not_found", "action_not_allowed"],
  example: { params: { kid: KID } },
  async handle(c, { params }) {
    const { keyring } = c.var.services
    if (params.kid === keyring.signingKey().kid)
      throw new AppError("action_not_allowed", "This is SIGNING_KEY: give the platform another first.")
    if (!(await keyring.distrust(params.kid))) throw new AppError("not_found", `There is no key ${params.kid}.`)
    return { status: 204, body: null }
  },
})

export const signingKeyOperations = [listSigningKeys, rotateSigningKey, distrustSigningKey]
