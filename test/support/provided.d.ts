/** What vitest.config.ts hands to tests that run where there is no environment. */
import "vitest"

declare module "vitest" {
  interface ProvidedContext {
    seed: string
    jobs: string
  }
}
