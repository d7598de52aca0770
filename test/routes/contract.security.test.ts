import { describe, expect, it } from "vitest"
import { newApp, OPERATIONS } from "../../worker/app.ts"
import { apiDocument } from "../../worker/openapi.ts"
import { isScope } from "../../worker/operation.ts"
import { authenticatedOperations, holdsToTheContract } from "../support/route-contract.ts"
import { TEST_ISSUER } from "../support/signing-key.ts"

const operations = authenticatedOperations(apiDocument(newApp(), TEST_ISSUER))

it("covers every operation that needs a scope", () => {
  const expected = OPERATIONS.filter(({ access }) => isScope(access)).map(({ id }) => id)
  expect(operations.map(({ operationId }) => operationId).toSorted()).toEqual(expected.toSorted())
})

describe.each(operations)("$operationId", holdsToTheContract)
