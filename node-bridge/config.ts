/** What the bridge is told on its command line and in its environment, checked before anything is done. */
import { availableParallelism, hostname } from "node:os"
import { resolve } from "node:path"
import { parseArgs } from "node:util"
import { z } from "zod"
import { Labels, Profile } from "../schema/container.ts"
import { EXIT, Fault } from "./agent/fault.ts"

const OPTIONS = {
  state: { type: "string" },
  url: { type: "string" },
  "join-token": { type: "string" },
  "join-token-file": { type: "string" },
  controller: { type: "string" },
  runtime: { type: "string" },
  profiles: { type: "string" },
  "isolation-check": { type: "string" },
  label: { type: "string", multiple: true },
  name: { type: "string" },
  images: { type: "string" },
  log: { type: "string" },
  "drain-timeout": { type: "string" },
  "parallel-starts": { type: "string" },
  "registry-timeout": { type: "string" },
  "pull-timeout": { type: "string" },
  "cdi-dir": { type: "string", multiple: true },
  "cdi-hook": { type: "string", multiple: true },
  "device-scrub": { type: "string" },
  "device-probe": { type: "string" },
  "provider-range": { type: "string", multiple: true },
  "loopback-registries": { type: "boolean" },
  "capacity-cpus": { type: "string" },
  "capacity-memory-bytes": { type: "string" },
  "capacity-pids": { type: "string" },
  "capacity-runs": { type: "string" },
  "capacity-disk-bytes": { type: "string" },
  "disk-overcommit": { type: "string" },
  help: { type: "boolean", short: "h" },
} as const

export const HELP = `node-bridge: runs a host's containers for the platform

  --state DIR              the node's state: identity, journal, images (BERTH_NODE_STATE)
  --url URL                the platform (BERTH_URL); https, or http to this machine alone
  --join-token TOKEN       enrols this host the first time (BERTH_JOIN_TOKEN)
  --join-token-file FILE   the same, from a file: arguments can be read by other users (BERTH_JOIN_TOKEN_FILE)
  --controller oci|fake    fake runs nothing, needs no root, and is for trying things out (default oci)
  --runtime crun|runc      the OCI runtime of the profile hardened (default crun)
  --profiles LIST          the isolation profiles to offer, of hardened,sandboxed; default: those whose runtime is installed
                           (sandboxed: runsc). Either way a profile is offered once its self-test ran here
  --isolation-check SECONDS
                           how often each container is looked at, whether it is as confined as promised (default 60)
  --images DIR             OCI layouts that may be named as localhost/NAME:TAG
  --loopback-registries    let images name a registry on this host's loopback, by plain HTTP; off unless you run one there
  --label KEY=VALUE        a label of this node; may be given more than once
  --name HOSTNAME          default: this host's name
  --capacity-cpus N, --capacity-memory-bytes N, --capacity-pids N, --capacity-runs N, --capacity-disk-bytes N
                           offer this much instead of what was measured
  --disk-overcommit FACTOR promise so many times the disk space that there is (default 1); few containers fill their disks
  --parallel-starts N      containers started at once (default: four a processor)
  --registry-timeout SECONDS
                           the longest that a registry may take to say which image a tag names (default 20)
  --pull-timeout SECONDS   the longest that one image may take to come from its registry (default 600)
  --cdi-dir DIR            a directory of device descriptions (CDI), the later the stronger; may be given more than once
                           (default: /etc/cdi, then /var/run/cdi)
  --cdi-hook PROGRAM       a program that device descriptions may have run, as root; may be given more than once. It is
                           handed the container's root, and must not follow links in there out of it
  --device-scrub PROGRAM   run with a device's name after each use; nobody else gets the device before it ends with 0
  --device-probe PROGRAM   run with a device's name every 30 seconds; the device fails when it does not end with 0
  --provider-range CIDR    a network of yours that no container may reach; may be given more than once. Private and link-local
                           networks, this host and all of IPv6 are closed anyway
  --drain-timeout SECONDS  the longest that a container may take to stop on SIGUSR2 (default 10)
  --log text|json          form of the log on stderr (default text)

Environment: BERTH_TOOLS names a directory whose programs (conmon, crun, skopeo, ...) are used before the system's.
Signals: SIGTERM and SIGINT end the bridge and leave its containers running; the next bridge takes them up.
SIGUSR2 stops the containers, reports them, and ends the bridge.
Exit codes: 0 as asked, 2 wrong use, 3 the host lacks something, 4 in use by another bridge, 5 refused by the platform.
`

/** Only this machine may be spoken to without TLS: a join token or an assertion must not cross a network in the clear. */
const isLoopback = (host: string) => /^(localhost|.*\.localhost|127(\.\d{1,3}){3}|\[::1\])$/.test(host)

const Url = z
  .string("give the platform's address with --url")
  .refine(URL.canParse, "--url must be an address such as https://berth.example")
  .refine((text) => !URL.canParse(text) || /^https?:$/.test(new URL(text).protocol), "--url must begin with https://")
  .refine(
    (text) => !URL.canParse(text) || new URL(text).protocol !== "http:" || isLoopback(new URL(text).hostname),
    "--url may only be http:// when it names this machine; use https://",
  )

/** The platform gives a run up that prepares for longer than 900 seconds; its tenant shall read of the registry instead. */
const MAX_PULL_SECONDS = 800

/** A start spends most of its time waiting for the kernel; beyond this they only get into each other's way. */
const STARTS_PER_CPU = 4

const positive = (name: string) => z.coerce.number(`--${name} must be a number`).positive(`--${name} must be above 0`)
/** A program or a directory that works on as root is not looked for. */
const absolute = (name: string) => z.string().startsWith("/", `--${name} must be an absolute path`)
const whole = (name: string) => positive(name).int(`--${name} must be a whole number`)

const Config = z.object({
  state: z.string("give a state directory with --state").min(1, "--state must not be empty").transform((path) => resolve(path)),
  url: Url,
  joinToken: z.string().max(256, "the join token is too long").optional(),
  joinTokenFile: z.string().optional(),
  controller: z.enum(["oci", "fake"], "--controller must be oci or fake").default("oci"),
  runtime: z.enum(["crun", "runc"], "--runtime must be crun or runc").default("crun"),
  profiles: z
    .string()
    .transform((list) => list.split(","))
    .pipe(z.array(z.enum(Profile.options, "--profiles takes hardened, sandboxed, or both with a comma between")))
    .optional(),
  isolationCheckSeconds: whole("isolation-check").optional(),
  labels: Labels,
  name: z.string().min(1, "--name must not be empty").max(253, "--name must be at most 253 characters").default(hostname),
  images: z.string().transform((path) => resolve(path)).optional(),
  log: z.enum(["text", "json"], "--log must be text or json").default("text"),
  drainTimeoutSeconds: z.coerce.number("--drain-timeout must be a number of seconds").min(0, "--drain-timeout must be 0 or more").default(10),
  parallelStarts: whole("parallel-starts").default(() => STARTS_PER_CPU * availableParallelism()),
  loopbackRegistries: z.boolean().default(false),
  cdiDirs: z.array(absolute("cdi-dir")).min(1).optional(),
  cdiHooks: z.array(absolute("cdi-hook")),
  deviceScrub: absolute("device-scrub").optional(),
  deviceProbe: absolute("device-probe").optional(),
  providerRanges: z.array(z.union([z.cidrv4(), z.cidrv6()], "--provider-range must be a network such as 198.51.100.0/24")),
  registryTimeoutSeconds: whole("registry-timeout").optional(),
  pullTimeoutSeconds: whole("pull-timeout").max(MAX_PULL_SECONDS, `--pull-timeout must be at most ${MAX_PULL_SECONDS}`).optional(),
  diskOvercommit: z.coerce.number("--disk-overcommit must be a number").min(1, "--disk-overcommit must be 1 or more").default(1),
  capacity: z.object({
    cpus: positive("capacity-cpus").optional(),
    memory_bytes: whole("capacity-memory-bytes").optional(),
    pids: whole("capacity-pids").optional(),
    runs: whole("capacity-runs").optional(),
    disk_bytes: whole("capacity-disk-bytes").optional(),
  }),
}) // prettier-ignore
export type Config = z.infer<typeof Config>

/** Throws a `Fault` of one sentence; "help" when that was asked for. */
export function readConfig(args: readonly string[], env: Readonly<Record<string, string | undefined>>): Config | "help" {
  const values = parse(args)
  if (values.help) return "help"
  const parsed = Config.safeParse({
    state: values.state ?? env.BERTH_NODE_STATE,
    url: values.url ?? env.BERTH_URL,
    joinToken: values["join-token"] ?? env.BERTH_JOIN_TOKEN,
    joinTokenFile: values["join-token-file"] ?? env.BERTH_JOIN_TOKEN_FILE,
    controller: values.controller ?? env.BERTH_CONTROLLER,
    runtime: values.runtime ?? env.BERTH_RUNTIME,
    profiles: values.profiles,
    isolationCheckSeconds: values["isolation-check"],
    labels: Object.fromEntries((values.label ?? []).map(labelOf)),
    name: values.name,
    images: values.images,
    log: values.log ?? env.BERTH_LOG,
    drainTimeoutSeconds: values["drain-timeout"],
    parallelStarts: values["parallel-starts"],
    loopbackRegistries: values["loopback-registries"],
    cdiDirs: values["cdi-dir"],
    cdiHooks: values["cdi-hook"] ?? [],
    deviceScrub: values["device-scrub"],
    deviceProbe: values["device-probe"],
    providerRanges: values["provider-range"] ?? [],
    registryTimeoutSeconds: values["registry-timeout"],
    pullTimeoutSeconds: values["pull-timeout"],
    diskOvercommit: values["disk-overcommit"],
    capacity: {
      cpus: values["capacity-cpus"],
      memory_bytes: values["capacity-memory-bytes"],
      pids: values["capacity-pids"],
      runs: values["capacity-runs"],
      disk_bytes: values["capacity-disk-bytes"],
    },
  })
  if (parsed.success) return parsed.data
  const first = parsed.error.issues[0]
  const where = first?.path[0] === "labels" ? "--label: " : ""
  throw new Fault(EXIT.usage, `${where}${first?.message ?? "the options cannot be read"}.`)
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: OPTIONS, strict: true, allowPositionals: false }).values
  } catch (error) {
    const message = error instanceof Error ? (error.message.split(/\.\s/)[0] ?? error.message) : String(error)
    throw new Fault(EXIT.usage, `${message}; --help lists the options.`)
  }
}

function labelOf(text: string): [string, string] {
  const at = text.indexOf("=")
  if (at < 1) throw new Fault(EXIT.usage, `--label must be KEY=VALUE, not ${JSON.stringify(text)}.`)
  return [text.slice(0, at), text.slice(at + 1)]
}
