/** The whole HTTP API on one screen: what every request passes through, and every operation there is. */
import { OpenAPIHono } from "@hono/zod-openapi"
import type { MiddlewareHandler } from "hono"
import { methodNotAllowed } from "hono/method-not-allowed"
import type { Env } from "../durable/shared/ports.ts"
import { AppError } from "../schema/errors.ts"
import { docsPage } from "./docs/page.ts"
import type { AppEnv, Services } from "./env.ts"
import { servicesOf } from "./env.ts"
import { Refusal, respondError } from "./errors.ts"
import { authenticate } from "./middleware/authenticate.ts"
import { limitRate } from "./middleware/limit-rate.ts"
import { requestContext } from "./middleware/request-context.ts"
import { apiDocument, describe } from "./openapi.ts"
import type { Operation } from "./operation.ts"
import { isScope, run } from "./operation.ts"
import { createCell, getCell, listCells, updateCell } from "./routes/admin-cells.ts"
import { dryRunForTenant } from "./routes/admin-dry-run.ts"
import { createJoinToken, forgetNode, getNode, listNodes } from "./routes/admin-nodes.ts"
import { createTenant, getTenant, listTenants, mintTenantToken, updateTenant } from "./routes/admin-tenants.ts"
import { readAudit, readOperatorAudit } from "./routes/audit.ts"
import { connectNode } from "./routes/connect-node.ts"
import { containerActions } from "./routes/container-actions.ts"
import { containerIsolation } from "./routes/container-isolation.ts"
import { containerLogs } from "./routes/container-logs.ts"
import { batchContainers } from "./routes/batch-containers.ts"
import { createContainer } from "./routes/create-container.ts"
import { enrollNode } from "./routes/enroll-node.ts"
import { getContainer } from "./routes/get-container.ts"
import { identifyRun } from "./routes/identity.ts"
import { listContainers } from "./routes/list-containers.ts"
import { listEvents } from "./routes/list-events.ts"
import { cordonNode, drainNode, uncordonNode, updateNode } from "./routes/node-standing.ts"
import { oauthOperations } from "./routes/oauth.ts"
import { health, jwks } from "./routes/platform.ts"
import { readQuota } from "./routes/quota.ts"
import { registryCredentialOperations } from "./routes/registry-credentials.ts"
import { removeContainer } from "./routes/remove-container.ts"
import { signingKeyOperations } from "./routes/signing-keys.ts"
import { tokenOperations } from "./routes/tokens.ts"
import { trustOperations } from "./routes/trusts.ts"
import { updateContainer } from "./routes/update-container.ts"
import { waitContainer } from "./routes/wait-container.ts"
import { webhookOperations } from "./routes/webhooks.ts"

export const OPERATIONS: readonly Operation[] = [
  createContainer,
  batchContainers,
  listContainers,
  getContainer,
  updateContainer,
  removeContainer,
  ...containerActions,
  waitContainer,
  containerLogs,
  containerIsolation,
  listEvents,
  ...webhookOperations,
  ...registryCredentialOperations,
  ...tokenOperations,
  ...trustOperations,
  ...oauthOperations,
  readQuota,
  readAudit,
  readOperatorAudit,
  createTenant,
  listTenants,
  getTenant,
  updateTenant,
  mintTenantToken,
  ...signingKeyOperations,
  createCell,
  listCells,
  getCell,
  updateCell,
  dryRunForTenant,
  listNodes,
  getNode,
  updateNode,
  cordonNode,
  uncordonNode,
  drainNode,
  forgetNode,
  createJoinToken,
  enrollNode,
  connectNode,
  identifyRun,
  health,
  jwks,
]

const OFFERED: ReadonlySet<string> = new Set(OPERATIONS.map(({ access }) => access).filter(isScope))

/** Tests pass services of their own. */
export function newApp(services: (env: Env) => Services = servicesOf): OpenAPIHono<AppEnv> {
  const app = new OpenAPIHono<AppEnv>()
  app.onError((error, c) => respondError(c, error))
  app.notFound((c) => respondError(c, new AppError("not_found", "There is nothing at this address.")))
  app.use(requestContext(services, OFFERED))
  app.use(
    methodNotAllowed({
      app,
      onMethodNotAllowed: (c, methods) => {
        const allow = methods.join(", ")
        return respondError(c, new Refusal("method_not_allowed", `${c.req.path} takes ${allow}.`, { allow }))
      },
    }),
  )
  for (const operation of OPERATIONS) register(app, operation)
  app.get("/", (c) => c.redirect("/docs"))
  app.get("/openapi.json", (c) => c.json(apiDocument(app, new URL(c.req.url).origin)))
  app.get("/docs", async (c) => docsPage(c, apiDocument(app, new URL(c.req.url).origin)))
  return app
}

function register(app: OpenAPIHono<AppEnv>, operation: Operation): void {
  const path = operation.path.replaceAll(/\{(\w+)\}/g, ":$1")
  const named: MiddlewareHandler<AppEnv> = async (c, next) => {
    c.set("operation", operation.id)
    await next()
  }
  const guards = isScope(operation.access) ? [authenticate(operation.access), limitRate] : []
  app.openAPIRegistry.registerPath(describe(operation))
  app.on([operation.method.toUpperCase()], [path], named, ...guards, (c) => run(operation, c))
}
