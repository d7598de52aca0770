/**
 * The control plane on this machine: the Worker and its objects on workerd, by Miniflare as a library. What is bound to what
 * is read from wrangler.toml, so that the embedded platform and a deployed one cannot differ.
 */
import { mkdir, readFile, rm, writeFile } from "node:fs/promises"
import { createRequire } from "node:module"
import { join } from "node:path"
import { drizzle } from "drizzle-orm/d1"
import { migrate } from "drizzle-orm/d1/migrator"
import { build } from "esbuild"
import type { JWK } from "jose"
import { Log, LogLevel, Miniflare } from "miniflare"
import { parse } from "smol-toml"
import { z } from "zod"
import { parseRanges } from "../durable/tenant/webhooks/destination.ts"

const ROOT = join(import.meta.dirname, "..")
/** The package is CommonJS with the path of its binary as `default`, which bundlers and Node import in different ways. */
const require = createRequire(import.meta.url)
const { default: workerdBinary } = require("workerd") as { readonly default: string }

const WranglerConfig = z.object({
  name: z.string(),
  main: z.string(),
  compatibility_date: z.string(),
  compatibility_flags: z.array(z.string()),
  durable_objects: z.object({ bindings: z.array(z.object({ name: z.string(), class_name: z.string() })) }),
  d1_databases: z.array(z.object({ binding: z.string(), migrations_dir: z.string() })),
})

/** What webhooks of the embedded platform may lead to: a receiver on the same machine is how one is tried. */
export const WEBHOOK_ALLOW = "127.0.0.1/32"

export interface ControlPlane {
  readonly url: string
  /** What its tokens name as `iss` and `aud`. */
  readonly issuer: string
  stop(): Promise<void>
}

export interface ControlPlaneOptions {
  /** Folder for the objects' and the directory's databases. */
  readonly state: string
  readonly port: number
  readonly signingKey: JWK
  /** Seals what tenants entrust to the platform: 32 bytes, base64url. */
  readonly secretsKey: string
  /** Address ranges that webhooks may lead to though they are not public; by default the loopback address of this machine. */
  readonly webhookAllow?: string
  /** Keeps the issuer's name: nodes and tokens hold on to it, so it must not follow the port of the day. */
  readonly issuerFile: string
  /** Calls that one principal may make in a minute; the product's own number by default. */
  readonly rateLimitPerMinute?: number
  /** Serves this module instead, which exports the same objects: for benches that drive one of them by itself. */
  readonly main?: string
  /** Where workerd's inspector listens on loopback; by default it does not. */
  readonly inspectorPort?: number
  /** A line that workerd or the worker printed. */
  readonly onLog?: (line: string) => void
}

/** Serves the control plane on a loopback port (0 picks a free one) and brings the directory's schema up to date. */
export async function startControlPlane(options: ControlPlaneOptions): Promise<ControlPlane> {
  const config = WranglerConfig.parse(parse(await readFile(join(ROOT, "wrangler.toml"), "utf8")))
  const script = await bundle(options.main ?? join(ROOT, config.main))
  const port = options.port === 0 ? await freePort() : options.port
  const url = `http://127.0.0.1:${port}`
  const webhookAllow = parseRanges(options.webhookAllow ?? WEBHOOK_ALLOW)
  const issuer = await issuerIn(options.issuerFile, url)
  process.env.BERTH_WORKERD = workerdBinary
  process.env.MINIFLARE_WORKERD_PATH = join(import.meta.dirname, "workerd-tied")
  const restoreSignals = keepSignalHandlers()
  const restoreTemporary = await temporaryIn(join(options.state, "temporary"))
  const miniflare = new Miniflare({
    host: "127.0.0.1",
    cf: false, // otherwise every start asks the internet for a sample of request metadata
    logRequests: false,
    telemetry: { enabled: false },
    enableDevRegistry: false,
    ...(options.inspectorPort !== undefined && { inspectorPort: options.inspectorPort }),
    resourcePersistencePath: options.state,
    log: new Log(LogLevel.NONE),
    handleStructuredLogs: ({ level, message }) => options.onLog?.(`${level}: ${message}`),
    workers: [
      {
        config: {
          name: config.name,
          compatibilityDate: config.compatibility_date,
          compatibilityFlags: config.compatibility_flags,
          manifest: { mainModule: "index.js", modulesRoot: ROOT, modules: { "index.js": { type: "esm", contents: script } } },
          exports: Object.fromEntries(
            config.durable_objects.bindings.map(({ class_name }) => [
              class_name,
              { type: "durable-object", storage: "sqlite" } as const,
            ]),
          ),
          env: {
            ...Object.fromEntries(
              config.durable_objects.bindings.map(({ name, class_name }) => [
                name,
                { type: "durable-object", worker: config.name, exportName: class_name } as const,
              ]),
            ),
            ...Object.fromEntries(
              config.d1_databases.map(({ binding }) => [binding, { type: "d1", id: binding.toLowerCase() } as const]),
            ),
            ISSUER: { type: "text", value: issuer },
            SIGNING_KEY: { type: "text", value: JSON.stringify(options.signingKey) },
            SECRETS_KEY: { type: "text", value: options.secretsKey },
            ...(options.rateLimitPerMinute !== undefined && {
              RATE_LIMIT_PER_MINUTE: { type: "text", value: String(options.rateLimitPerMinute) } as const,
            }),
            WEBHOOK_ALLOW: { type: "text", value: webhookAllow.join(",") },
            // Here `fetch` would reach this machine and its network; this binding judges each address that a name resolves to.
            WEBHOOK_NETWORK: { type: "network", allow: ["public", ...webhookAllow] },
          },
        },
        dev: {
          unsafeRegisterWorker: false,
          // The address that everybody calls. Miniflare's own, on a port that nobody is told, leads through a worker of its own,
          // which costs each call a copy of its headers and body, and answers addresses that are not ours.
          unsafeDirectSockets: [{ host: "127.0.0.1", port }],
        },
      },
    ],
  })
  restoreTemporary()
  restoreSignals() // those of its construction, and below those that came until it was ready
  try {
    await miniflare.ready
    restoreSignals()
    for (const { binding, migrations_dir } of config.d1_databases) {
      await migrate(drizzle(await miniflare.getD1Database(binding)), { migrationsFolder: join(ROOT, migrations_dir) })
    }
  } catch (error) {
    restoreSignals()
    await miniflare.dispose().catch(() => {})
    throw error
  }
  return { url, issuer, stop: () => miniflare.dispose() }
}

/** The issuer of a state folder: the first address that it was served at. */
async function issuerIn(file: string, url: string): Promise<string> {
  try {
    return (await readFile(file, "utf8")).trim()
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error
    await writeFile(file, `${url}\n`, { mode: 0o600 })
    return url
  }
}

async function bundle(entry: string): Promise<string> {
  const result = await build({
    entryPoints: [entry],
    bundle: true,
    write: false,
    format: "esm",
    target: "es2024",
    platform: "neutral",
    conditions: ["workerd", "worker", "browser"],
    mainFields: ["browser", "module", "main"],
    external: ["cloudflare:*", "node:*"],
    loader: { ".sql": "text" },
    logLevel: "silent",
  })
  const [output] = result.outputFiles
  if (!output) throw new Error("The bundler made no output for the worker.")
  return output.text
}

/** Miniflare makes its folder where temporary files go, and one that was killed leaves it there: ours is emptied at each start. */
async function temporaryIn(folder: string): Promise<() => void> {
  await rm(folder, { recursive: true, force: true })
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const before = process.env.TMPDIR
  process.env.TMPDIR = folder
  return () => {
    if (before === undefined) delete process.env.TMPDIR
    else process.env.TMPDIR = before
  }
}

/** Miniflare ends the process on SIGINT, SIGTERM and SIGHUP before ours can finish; this takes its handlers off again. */
function keepSignalHandlers(): () => void {
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const
  const before = new Map(signals.map((signal) => [signal, new Set(process.listeners(signal))]))
  return () => {
    for (const signal of signals) {
      for (const listener of process.listeners(signal)) {
        if (!before.get(signal)?.has(listener)) process.removeListener(signal, listener)
      }
    }
  }
}

export async function freePort(): Promise<number> {
  const { createServer } = await import("node:net")
  return await new Promise((resolve, reject) => {
    const server = createServer()
    server.once("error", reject)
    server.listen(0, "127.0.0.1", () => {
      const address = server.address()
      server.close(() => (address && typeof address === "object" ? resolve(address.port) : reject(new Error("no port"))))
    })
  })
}
