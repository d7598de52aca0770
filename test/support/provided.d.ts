/** What vitest.config.ts hands to tests that run where there is no environment. */
declare module "vitest" {
  interface ProvidedContext {
    seed: string
    jobs: string
  }
}
export {}
