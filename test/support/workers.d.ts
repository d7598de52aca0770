/** The bindings of tests that run in workerd: the platform's own, and the directory's migrations. */
declare namespace Cloudflare {
  interface Env {
    readonly TENANT: DurableObjectNamespace
    readonly CELL: DurableObjectNamespace
    readonly NODE: DurableObjectNamespace
    readonly DIRECTORY: D1Database
    readonly ISSUER: string
    readonly SIGNING_KEY: string
    readonly SECRETS_KEY: string
    readonly DIRECTORY_MIGRATIONS: import("cloudflare:test").D1Migration[]
  }
  interface GlobalProps {
    mainModule: typeof import("../../worker/index.ts")
  }
}
