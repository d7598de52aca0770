import { cloudflareTest, readD1Migrations } from "@cloudflare/vitest-plugin"
import { join } from "node:path"
import { defineConfig } from "vitest/config"
import { TEST_ISSUER, TEST_SECRETS_KEY, TEST_SIGNING_KEY } from "./test/support/signing-key.ts"

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

/**
 * The platform's own worker and objects, with the tests beside them in one isolate. `verbose`: workerd tells of each call that is
 * refused or broken off.
 */
const inWorkerd = async (verbose = true) =>
  cloudflareTest({
    wrangler: { configPath: "./wrangler.toml" },
    verbose,
    miniflare: {
      bindings: {
        ISSUER: TEST_ISSUER,
        SIGNING_KEY: JSON.stringify(TEST_SIGNING_KEY),
        SECRETS_KEY: TEST_SECRETS_KEY,
        WEBHOOK_ALLOW: "127.0.0.1/32",
        DIRECTORY_MIGRATIONS: await readD1Migrations("./schema/migrations/directory"),
      },
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
        plugins: [await inWorkerd()],
        test: {
          name: "workerd",
          include: ["test/workerd/**/*.test.ts", "test/routes/**/*.test.ts"],
          setupFiles: ["test/support/apply-migrations.ts"],
          isolate: false,
          testTimeout: 20_000,
        },
      },
      {
        plugins: [await inWorkerd(false)],
        // A bridge's sockets: real ones to real objects, over a wire that fails.
        resolve: { alias: [{ find: /^ws$/, replacement: join(import.meta.dirname, "test/chaos/workerd/wire.ts") }] },
        test: {
          name: "chaos",
          include: ["test/chaos/workerd/**/*.test.ts"],
          provide: { seed: process.env.BERTH_SEED ?? "", jobs: process.env.BERTH_JOBS ?? "" },
          isolate: false,
          // On a machine that does other things as well. BERTH_JOBS asks for a soak.
          testTimeout: process.env.BERTH_JOBS ? 7_200_000 : 300_000,
        },
      },
      onHost("host", 60_000, 1),
      onHost("e2e", 120_000, 2),
      onHost("alone", 60_000, 3),
      onHost("chaos/host", 180_000, 4),
    ],
  },
})
