/** What a tenant may ask for. Unknown fields are refused by name: nothing that is asked is ever quietly ignored. */
import { z } from "zod"
import { RegistryCredentialId } from "./ids.ts"
import { onlyPublic } from "./private-networks.ts"

export const MIB = 1024 * 1024
export const GIB = 1024 * MIB
/** The smallest memory limit Docker takes as well; below it runtimes fail in ways that nobody can read. */
export const MIN_MEMORY_BYTES = 6 * MIB
/** gVisor's kernel counts too: at rest it takes 14 MiB, and with 16 MiB no container of it got as far as its first process. */
export const MIN_SANDBOXED_MEMORY_BYTES = 64 * MIB
/** Linux's limit for one argv or env string is 128 KiB (MAX_ARG_STRLEN); all of them together stay far under it. */
export const MAX_PROCESS_TEXT_BYTES = 128 * 1024
const MAX_LABELS = 64

const noNul = (text: string) => !text.includes("\0")
const processText = z.string().max(MAX_PROCESS_TEXT_BYTES).refine(noNul, "must not contain a NUL character")

/** RFC 1123 label. It has no underscore, so a name can never look like an id. */
export const ContainerName = z
  .string()
  .regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, "must be 1 to 63 lower-case letters, digits or inner hyphens")
  .meta({ description: "Unique among the tenant's live containers; usable wherever an id is.", examples: ["web-1"] })

const COMPONENT = "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
const DOMAIN =
  "(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\\[[a-fA-F0-9:]+\\])(?::[0-9]{1,5})?"
/** The grammar of the distribution project: https://pkg.go.dev/github.com/distribution/reference. */
export const IMAGE_REFERENCE = new RegExp(
  `^(?:${DOMAIN}/)?${COMPONENT}(?:/${COMPONENT})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[a-f0-9]{64})?$`,
)
export const ImageReference = z
  .string()
  .max(512)
  .regex(IMAGE_REFERENCE, "must be an image reference such as registry.example/app:1 or app@sha256:…")
  .meta({ examples: ["registry.example/team/app:1.4", "localhost/hello:latest"] })

export const ImageDigest = z.string().regex(/^sha256:[a-f0-9]{64}$/)

/** Images of one repository, images of one digest, or one image of one repository. */
export const ImageSelector = z
  .string()
  .max(512)
  .regex(
    new RegExp(`^(?:sha256:[a-f0-9]{64}|(?:${DOMAIN}/)?${COMPONENT}(?:/${COMPONENT})*(?:@sha256:[a-f0-9]{64})?)$`),
    "must be an image's repository without a tag, a digest such as sha256:…, or both as repository@sha256:…",
  )
  .meta({ examples: ["registry.example/team/app"] })

/** Signals by name, as in signal(7); the real-time ones and those that cannot mean anything to a tenant are left out. */
export const SIGNALS = {
  SIGHUP: 1, SIGINT: 2, SIGQUIT: 3, SIGABRT: 6, SIGKILL: 9, SIGUSR1: 10, SIGUSR2: 12, SIGALRM: 14, SIGTERM: 15,
  SIGCONT: 18, SIGSTOP: 19, SIGTSTP: 20, SIGWINCH: 28,
} as const // prettier-ignore
export const SignalName = z.enum(Object.keys(SIGNALS) as [keyof typeof SIGNALS, ...(keyof typeof SIGNALS)[]])
export type SignalName = z.infer<typeof SignalName>

/** A map would lose this name without a word, as JavaScript takes it for something else. */
export const named = <T extends z.ZodType>(map: T) =>
  z.preprocess((value, context) => {
    if (typeof value === "object" && value !== null && Object.hasOwn(value, "__proto__"))
      context.addIssue({ code: "custom", path: ["__proto__"], message: "cannot be used as a name" })
    return value
  }, map)

export const Labels = z
  .record(
    z.string().regex(/^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$/, "must be 1 to 63 letters, digits or . _ / -"),
    z.string().max(256).refine(noNul, "must not contain a NUL character"),
  )
  .refine((labels) => Object.keys(labels).length <= MAX_LABELS, `at most ${MAX_LABELS} labels`)

const Env = z
  .record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_.-]*$/, "must be a variable name"), processText)
  .refine(
    (env) => Object.entries(env).reduce((sum, [key, value]) => sum + key.length + value.length + 2, 0) <= MAX_PROCESS_TEXT_BYTES,
    `all variables together must be at most ${MAX_PROCESS_TEXT_BYTES} bytes`,
  )

const CDI_PART = "[A-Za-z](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?"
/** `vendor/class`, as the Container Device Interface names a kind: https://github.com/cncf-tags/container-device-interface. */
export const DeviceKind = z
  .string()
  .max(128)
  .regex(new RegExp(`^${CDI_PART}/${CDI_PART}$`), "must be a CDI kind such as nvidia.com/gpu")
/** `vendor/class=name`: one device of one node. */
export const DeviceName = z
  .string()
  .max(256)
  .regex(new RegExp(`^${CDI_PART}/${CDI_PART}=[A-Za-z0-9](?:[A-Za-z0-9_.:-]*[A-Za-z0-9])?$`), "must be a CDI device name")

/** More than the devices of any one host known. */
const MAX_DEVICES = 64
const DeviceRequest = z.strictObject({ kind: DeviceKind, count: z.int().min(1).max(MAX_DEVICES).default(1) })
export const AcceleratorRequest = z
  .union([
    DeviceRequest,
    z.strictObject({
      first_available: z.array(DeviceRequest).min(1).max(8).meta({ description: "The first of these that a node has free." }),
    }),
  ])
  .meta({ id: "AcceleratorRequest", examples: [{ kind: "nvidia.com/gpu", count: 1 }] })
export type AcceleratorRequest = z.infer<typeof AcceleratorRequest>

const rate = (what: string) => z.int().min(1).max(Number.MAX_SAFE_INTEGER).optional().meta({ description: what })

/** The kernel keeps it in 32 bits, of which the greatest number says that there is no limit. */
const operations = z.int().min(1).max(0xffff_fffe).optional().meta({ description: "Absent: no limit." })

/** Limits on the disk behind the container's root. On cgroup v1 they hold for direct and synced I/O only; `warnings` says so. */
export const DiskIo = z
  .strictObject({
    read_bytes_per_second: rate("Absent: no limit."),
    write_bytes_per_second: rate("Absent: no limit."),
    read_operations_per_second: operations,
    write_operations_per_second: operations,
    weight: z.int().min(1).max(1000).optional().meta({
      description: "Share under contention; 100 is usual. Only nodes whose disk scheduler weighs take such a container.",
    }),
  })
  .meta({ id: "DiskIo" })
export type DiskIo = z.infer<typeof DiskIo>

/** A quota smaller than this leaves no room for a file system's own records. */
export const MIN_DISK_BYTES = 16 * MIB

export const Resources = z
  .strictObject({
    cpus: z.number().min(0.01).max(1024).default(1).meta({ description: "Processor time per second, in processors." }),
    memory_bytes: z
      .int()
      .min(MIN_MEMORY_BYTES)
      .default(512 * MIB)
      .meta({ description: "Memory limit; there is no swap. Sandboxed: at least 64 MiB." }),
    pids: z.int().min(1).max(65_536).default(512).meta({ description: "Processes and threads at once." }),
    disk_bytes: z
      .int()
      .min(MIN_DISK_BYTES)
      .default(GIB)
      .meta({ description: "What it may write to its root; the image itself does not count." }),
    open_files: z.int().min(16).max(1_048_576).default(16_384).meta({ description: "Open files of each process." }),
    log_bytes_per_second: z
      .int()
      .min(1024)
      .max(GIB)
      .default(MIB)
      .meta({ description: "Of log as stored, each line's time included; faster writers are made to wait, nothing is lost." }),
    io: DiskIo.prefault({}),
    accelerators: z.array(AcceleratorRequest).max(8).default([]).meta({ description: "Devices for this container alone." }),
  })
  .meta({ id: "Resources" })
export type Resources = z.infer<typeof Resources>

export const RestartPolicy = z
  .strictObject({
    policy: z.enum(["no", "on-failure", "always"]).default("no"),
    max_retries: z.int().min(0).max(1_000_000).optional().meta({ description: "Only with on-failure; without it, no limit." }),
  })
  .refine((restart) => restart.max_retries === undefined || restart.policy === "on-failure", {
    path: ["max_retries"],
    message: "goes with policy on-failure only",
  })
  .meta({ id: "RestartPolicy" })
export type RestartPolicy = z.infer<typeof RestartPolicy>

export const StopPolicy = z
  .strictObject({
    signal: SignalName.optional().meta({ description: "Default: the image's STOPSIGNAL, else SIGTERM." }),
    timeout_seconds: z.int().min(0).max(3600).default(10).meta({ description: "After this many seconds: SIGKILL." }),
  })
  .meta({ id: "StopPolicy" })
export type StopPolicy = z.infer<typeof StopPolicy>

/** hardened: the kernel's own confinement, by crun or runc. sandboxed: a kernel of its own in user space, by gVisor. */
export const Profile = z.enum(["hardened", "sandboxed"])
export type Profile = z.infer<typeof Profile>

/**
 * Every capability that a container may have, and what needs it: what lets ordinary images drop privileges. They count inside
 * the tenant's user namespace, on ids of the tenant's range alone; the network namespace is not owned by it. So none reaches
 * a device, a mount or an address, and none of Docker's other eight is here: NET_RAW and NET_BIND_SERVICE (low ports are open
 * to everybody in the container), MKNOD, SETFCAP, SETPCAP, SYS_CHROOT, AUDIT_WRITE, FSETID.
 */
const CAPABILITY_USES = {
  CAP_CHOWN: "give files to another user, as package managers and the entrypoints of databases do",
  CAP_DAC_OVERRIDE: "as root, read and write other users' files, which everything that runs as root takes for granted",
  CAP_FOWNER: "as root, change mode and times of other users' files: tar, cp -a, dpkg",
  CAP_SETGID: "take another group on before leaving root: su, nginx, PostgreSQL",
  CAP_SETUID: "become another user: su, nginx, PostgreSQL",
  CAP_KILL: "as root, signal processes that became another user: supervisors, entrypoints that pass a stop on",
} as const
export const CAPABILITIES = Object.keys(CAPABILITY_USES) as [keyof typeof CAPABILITY_USES, ...(keyof typeof CAPABILITY_USES)[]]
const CAPABILITY_TEXT = Object.entries(CAPABILITY_USES)
  .map(([name, use]) => `${name}: ${use}.`)
  .join(" ")
export const Capability = z.enum(CAPABILITIES)
export type Capability = z.infer<typeof Capability>

export const Seccomp = z
  .strictObject({
    deny: z
      .array(z.string().regex(/^[a-z][a-z0-9_]{0,63}$/, "must be a system call's name"))
      .max(512)
      .default([])
      .meta({ description: "System calls to refuse beside those that the profile refuses." }),
  })
  .meta({ id: "Seccomp" })
export type Seccomp = z.infer<typeof Seccomp>

/** Enough for a service's dependencies; a longer list wants an egress proxy. */
const MAX_EGRESS_RANGES = 64
export const Egress = z.union([z.enum(["open", "none"]), z.array(z.cidrv4()).min(1).max(MAX_EGRESS_RANGES)]).meta({
  description: "open: outbound through NAT. A list of public IPv4 ranges: outbound to these alone. none: loopback only.",
})
export type Egress = z.infer<typeof Egress>

export const Network = z
  .strictObject({
    egress: Egress.default("open"),
    egress_bytes_per_second: rate("Out of the container. Absent: no limit."),
    ingress_bytes_per_second: rate("Into the container. Absent: no limit."),
  })
  .meta({ id: "Network" })
export type Network = z.infer<typeof Network>

/** A placement group's name: containers of one tenant that placement looks at together. */
export const GroupName = z
  .string()
  .regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, "must be 1 to 63 lower-case letters, digits or inner hyphens")
const MAX_ANTI_AFFINITY = 16

/** Where its runs may go. A wish that no node can meet now waits in `scheduling`; none is ever dropped. */
export const PlacementWish = z
  .strictObject({
    labels: Labels.default({}).meta({ description: "Node labels that must match, region among them." }),
    group: GroupName.optional().meta({
      description: "The placement group that it belongs to, for `spread` and `anti_affinity`.",
    }),
    spread: z
      .strictObject({
        by: z
          .string()
          .regex(/^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$/, "must be `node` or a node label's name")
          .default("node")
          .meta({ description: "`node`, or a node label such as `zone`; nodes without that label do not count." }),
        limit: z.int().min(1).max(100_000),
      })
      .optional()
      .meta({ description: "At most so many runs of its group on one node, or on nodes with one value of the label." }),
    anti_affinity: z.array(GroupName).max(MAX_ANTI_AFFINITY).default([]).meta({
      description: "Never on a node that holds a run of these groups of yours, and theirs never where this one is.",
    }),
  })
  .refine(({ group, spread }) => spread === undefined || group !== undefined, {
    path: ["spread"],
    message: "needs placement.group, whose runs it counts",
  })
  .meta({ id: "Placement" })
export type PlacementWish = z.infer<typeof PlacementWish>

export const ContainerCreate = z
  .strictObject({
    image: ImageReference,
    registry_credential: RegistryCredentialId.optional().meta({
      description: "What the node logs in with to pull the image; it must be for the image's registry.",
    }),
    name: ContainerName.optional(),
    command: z.array(processText).max(1024).optional().meta({ description: "Replaces the image's entrypoint." }),
    args: z.array(processText).max(4096).optional().meta({ description: "Replaces the image's default arguments." }),
    env: named(Env).default({}).meta({ description: "Added to the image's variables; the same name replaces." }),
    workdir: processText
      .startsWith("/", "must be an absolute path")
      .max(4096)
      .optional()
      .meta({ description: "Default: the image's." }),
    user: z
      .string()
      .regex(
        /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,63})?$/,
        "must be user or user:group, by name or number",
      )
      .optional()
      .meta({ description: "user or user:group, by name or number, inside the container. Default: the image's." }),
    labels: named(Labels).default({}).meta({ description: "Yours to find containers by." }),
    resources: Resources.prefault({}),
    restart: RestartPolicy.prefault({}),
    stop: StopPolicy.prefault({}),
    profile: Profile.default("hardened").meta({ description: "How it is confined; `isolation` shows what that comes to." }),
    read_only: z.boolean().default(false).meta({ description: "A read-only root, with tmpfs on /tmp and /run." }),
    tty: z.boolean().default(false).meta({ description: "A terminal as standard streams; all output is then stdout." }),
    network: Network.prefault({}),
    capabilities: z
      .array(Capability)
      .max(CAPABILITIES.length)
      .optional()
      .meta({
        description: `Fewer than the profile's own, or none. They count inside the container only. ${CAPABILITY_TEXT}`,
      }),
    seccomp: Seccomp.prefault({}),
    placement: PlacementWish.prefault({}),
    on_partition: z
      .enum(["stop", "keep"])
      .default("stop")
      .meta({
        description:
          "When its node is cut off for longer than its lease. stop: the node stops the run, and it is replaced by the restart " +
          "policy. keep: the run goes on and is never replaced, until the node is back or its operator forgets it.",
      }),
    drain: z.enum(["stop_first", "start_first"]).default("stop_first").meta({
      description: "When its node is emptied: whether the next run starts after this one has stopped, or before.",
    }),
    max_lifetime_seconds: z.int().min(1).max(31_536_000).optional().meta({ description: "A run is stopped after this long." }),
    remove_on_exit: z.boolean().default(false).meta({ description: "Removed by itself once its run has ended." }),
    start: z.boolean().default(true).meta({ description: "false: only create." }),
    identity: z
      .boolean()
      .default(false)
      .meta({
        description:
          "A socket in it, /run/berth/identity.sock, where `GET /token?audience=…` answers with a JWT for ten minutes that says what " +
          "it is, for others to verify with this platform's published keys.",
      }),
  })
  .refine((create) => !(create.remove_on_exit && create.restart.policy === "always"), {
    path: ["remove_on_exit"],
    message: "cannot go with restart policy always",
  })
  .refine(({ profile, seccomp }) => profile !== "sandboxed" || seccomp.deny.length === 0, {
    path: ["seccomp", "deny"],
    message: "cannot be asked of the sandboxed profile: its kernel is a program of its own, with a filter of its own",
  })
  .refine(({ profile, resources }) => profile !== "sandboxed" || resources.memory_bytes >= MIN_SANDBOXED_MEMORY_BYTES, {
    path: ["resources", "memory_bytes"],
    message: `must be at least ${MIN_SANDBOXED_MEMORY_BYTES} under the sandboxed profile: its kernel is a program of its own`,
  })
  .refine(({ profile, identity }) => profile !== "sandboxed" || !identity, {
    path: ["identity"],
    message: "cannot be asked of the sandboxed profile: its kernel reaches no socket of the host",
  })
  .superRefine(onlyPublic)
  .meta({ id: "ContainerCreate" })
export type ContainerCreate = z.infer<typeof ContainerCreate>

/** What can be changed while it runs. A field left out stays; null takes a limit away (RFC 7396). */
export const ContainerUpdate = z
  .strictObject({
    network: z
      .strictObject({
        egress: Egress.optional(),
        egress_bytes_per_second: rate("Out of the container. null: no limit.").nullable(),
        ingress_bytes_per_second: rate("Into the container. null: no limit.").nullable(),
      })
      .optional(),
  })
  .superRefine(onlyPublic)
  .meta({ id: "ContainerUpdate" })
export type ContainerUpdate = z.infer<typeof ContainerUpdate>

/** The wish as stored: all of the create body but what is acted on once. */
export type ContainerSpec = Omit<ContainerCreate, "name" | "start">

/** Of one batch; each still gets an id, a name and a run of its own. */
export const MAX_BATCH = 1000
export const ContainerBatch = z
  .strictObject({
    count: z.int().min(1).max(MAX_BATCH),
    container: ContainerCreate.meta({
      description: "What each of them is. A name becomes name-1, name-2 and so on; all or none are created.",
    }),
  })
  .refine(({ count, container }) => (container.name?.length ?? 0) + 1 + String(count).length <= 63, {
    path: ["container", "name"],
    message: "is too long to be numbered",
  })
  .meta({ id: "ContainerBatch" })
export type ContainerBatch = z.infer<typeof ContainerBatch>
