import { cloudflareTest } from "@cloudflare/vitest-plugin"
import { defineConfig } from "vitest/config"

/** Tests that need root, the host's runtimes or whole processes run one file at a time: they share the machine. */
const onHost = (name: string, testTimeout: number) => ({
  test: {
    name,
    include: [`test/${name}/**/*.test.ts`],
    environment: "node" as const,
    testTimeout,
    hookTimeout: 60_000,
    fileParallelism: false,
    pool: "forks" as const,
  },
})

export default defineConfig({
  test: {
    // `ctx.abort()` in a test of object resets rejects calls in flight; those rejections are the point, not a failure.
    onUnhandledError(error) {
      if ("durableObjectReset" in error && error.durableObjectReset) return false
    },
    projects: [
      { test: { name: "unit", include: ["test/unit/**/*.test.ts"], environment: "node" } },
      {
        plugins: [
          cloudflareTest({
            wrangler: { configPath: "./wrangler.toml" },
            miniflare: { bindings: { ISSUER: "https://berth.test", SIGNING_KEY: process.env.TEST_SIGNING_KEY ?? "" } },
          }),
        ],
        test: {
          name: "workerd",
          include: ["test/workerd/**/*.test.ts", "test/routes/**/*.test.ts"],
          isolate: false,
          testTimeout: 20_000,
        },
      },
      onHost("host", 60_000),
      onHost("e2e", 120_000),
    ],
  },
})
