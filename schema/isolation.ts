/** What the kernel really enforces on a run, read from outside: `/proc` of its process, its cgroups, its filter. */
import { z } from "zod"
import { DiskIo, Egress } from "./container.ts"
import { RunId } from "./ids.ts"

const Capabilities = z.object({
  effective: z.array(z.string()), permitted: z.array(z.string()), inheritable: z.array(z.string()),
  bounding: z.array(z.string()), ambient: z.array(z.string()),
}) // prettier-ignore

const IdMap = z.object({ inside: z.int(), outside: z.int(), count: z.int() })

export const Isolation = z
  .object({
    run_id: RunId,
    read_at: z.iso.datetime(),
    profile: z.string(),
    runtime: z.object({ name: z.string(), version: z.string() }),
    /** Of the kernel and of every program between the container and it. */
    versions: z.record(z.string(), z.string()),
    /** Each namespace by its inode, and with whom it is shared: nobody, the tenant's own containers, or the host. */
    namespaces: z.record(z.string(), z.object({ inode: z.int(), shared_with: z.enum(["nobody", "tenant", "host"]) })),
    user: z.object({
      uid_map: z.array(IdMap),
      gid_map: z.array(IdMap),
      runs_as_uid_inside: z.int(),
      root_is_host_root: z.boolean(),
    }),
    capabilities: Capabilities,
    no_new_privileges: z.boolean(),
    seccomp: z.object({ mode: z.enum(["none", "strict", "filter"]), filters: z.int(), sha256: z.string().nullable() }),
    mounts: z.array(z.object({ target: z.string(), type: z.string(), options: z.array(z.string()) })),
    masked_paths: z.array(z.string()),
    read_only_paths: z.array(z.string()),
    limits: z.object({
      cpus: z.number().nullable(),
      memory_bytes: z.int().nullable(),
      memory_swap_bytes: z.int().nullable(),
      pids: z.int().nullable(),
      /** The numbers of those that it may use; null where the host cannot hold a run to some. */
      processors: z.array(z.int()).nullable(),
      disk_bytes: z.int().nullable(),
      open_files: z.int().nullable(),
      io: DiskIo,
      cgroup_version: z.enum(["1", "2"]),
    }),
    /** Device nodes in `/dev`, and what the device controller lets the container do with each. */
    devices: z.array(
      z.object({ path: z.string(), type: z.enum(["c", "b"]), major: z.int(), minor: z.int(), access: z.string() }),
    ),
    network: z.object({
      mode: z.enum(["nat", "loopback"]),
      interfaces: z.array(z.string()),
      egress: Egress,
      egress_bytes_per_second: z.number().nullable(),
      ingress_bytes_per_second: z.number().nullable(),
      /** The host's packet filter rules and set elements that name this container, as the kernel prints them. */
      rules: z.array(z.string()),
    }),
    /** Every difference between what the profile promises and what was read; empty is the only good answer. */
    deviations: z.array(z.string()),
    verdict: z.enum(["holds", "deviates"]),
  })
  .meta({ id: "Isolation" })
export type Isolation = z.infer<typeof Isolation>
