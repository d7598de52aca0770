import { cloudflareTest, readD1Migrations } from "@cloudflare/vitest-plugin"
import { defineConfig } from "vitest/config"
import { TEST_ISSUER, TEST_SIGNING_KEY } from "./test/support/signing-key.ts"

/** Tests that need root, the host's runtimes or whole processes run one file at a time, after all others: they share the machine. */
const onHost = (name: string, testTimeout: number, groupOrder: number) => ({
  test: {
    name,
    include: [`test/${name}/**/*.test.ts`],
    environment: "node" as const,
    testTimeout,
    hookTimeout: 60_000,
    fileParallelism: false,
    sequence: { groupOrder },
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
            miniflare: {
              bindings: {
                ISSUER: TEST_ISSUER,
                SIGNING_KEY: JSON.stringify(TEST_SIGNING_KEY),
                DIRECTORY_MIGRATIONS: await readD1Migrations("./schema/migrations/directory"),
              },
            },
          }),
        ],
        test: {
          name: "workerd",
          include: ["test/workerd/**/*.test.ts", "test/routes/**/*.test.ts"],
          setupFiles: ["test/support/apply-migrations.ts"],
          isolate: false,
          testTimeout: 20_000,
        },
      },
      onHost("host", 60_000, 1),
      onHost("e2e", 120_000, 2),
      onHost("alone", 60_000, 3),
    ],
  },
})
