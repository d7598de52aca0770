import type { AppContext } from "../env.ts"
import type { ApiDocument } from "../openapi.ts"
export const docsPage = async (c: AppContext, document: ApiDocument): Promise<Response> => c.json(document)
