/**
 * What each profile promises of the process that the host sees, as data. Under `hardened` that process is the tenant's own.
 * Under `sandboxed` it is gVisor's sentry, the kernel that the tenant's processes run on: the host's fences are around the
 * sentry, and what the tenant's own processes may do is decided inside it, which nobody can read from out here.
 */
import type { Capability, Profile } from "../../schema/container.ts"
import { BASE_MOUNTS, ETC_FILES, MASKED_PATHS, NAMESPACES, READ_ONLY_PATHS, WRITABLE_MOUNTS } from "../oci/hardened.ts"

type CapabilitySet = "effective" | "permitted" | "inheritable" | "bounding" | "ambient"

export interface ProfilePromise {
  /** Namespaces that are not the host's, nor another tenant's. */
  readonly namespaces: readonly string[]
  /** Whose ids its user namespace maps: the tenant's whole range from 0, or one id that is nobody's. */
  readonly ids: "tenant" | "nobody"
  /** The most that each set may hold, given what the run was granted; null: a set that is not looked at. */
  readonly capabilities: (granted: readonly Capability[]) => Readonly<Record<CapabilitySet, readonly string[] | null>>
  /** Paths that are hidden or read-only where the kernel has them. */
  readonly maskedPaths: readonly string[]
  readonly readOnlyPaths: readonly string[]
  /** Mount points that may be there. */
  readonly mayMount: (readOnly: boolean) => readonly string[]
  /** Mount points that must be there, with the flags that each must have. */
  readonly mustMount: (readOnly: boolean) => Readonly<Record<string, readonly string[]>>
  /** Device nodes that may be there without being granted: path, and the device's type and number where that is fixed. */
  readonly devices: Readonly<Record<string, string | null>>
  /** Whether the open files of each process can be seen from outside. */
  readonly openFiles: boolean
}

/** Numbers from Documentation/admin-guide/devices.txt. */
const STANDARD_DEVICES = {
  "/dev/null": "c 1:3",
  "/dev/zero": "c 1:5",
  "/dev/full": "c 1:7",
  "/dev/random": "c 1:8",
  "/dev/urandom": "c 1:9",
  "/dev/tty": "c 5:0",
  "/dev/ptmx": "c 5:2",
  "/dev/console": null, // a terminal of the container's own
} as const

const HARDENED: ProfilePromise = {
  namespaces: NAMESPACES,
  ids: "tenant",
  capabilities: (granted) => ({ effective: granted, permitted: granted, inheritable: [], bounding: granted, ambient: [] }),
  maskedPaths: MASKED_PATHS,
  readOnlyPaths: READ_ONLY_PATHS,
  mayMount: (readOnly) => [
    "/", "/sys", "/sys/fs/cgroup", ...BASE_MOUNTS.map((mount) => mount.destination), ...ETC_FILES.map((name) => `/etc/${name}`),
    ...Object.keys(STANDARD_DEVICES), ...(readOnly ? WRITABLE_MOUNTS.map((mount) => mount.destination) : []),
  ], // prettier-ignore
  mustMount: (readOnly) => ({
    "/": readOnly ? ["nosuid", "nodev", "ro"] : ["nosuid", "nodev"],
    "/proc": ["nosuid", "nodev", "noexec"],
    "/sys": ["ro", "nosuid", "nodev", "noexec"],
    "/dev": ["nosuid"],
    ...Object.fromEntries(ETC_FILES.map((name) => [`/etc/${name}`, ["ro", "nosuid", "nodev"]])),
  }),
  devices: STANDARD_DEVICES,
  openFiles: true,
}

/** What the sentry needs to trace the tenant's processes and to leave its files; they count in its own user namespace alone. */
const SENTRY_CAPABILITIES = ["CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE"]

const SANDBOXED: ProfilePromise = {
  // The sentry stays in the host's pid namespace to trace what it runs; that shows it nothing, for it has no /proc.
  namespaces: ["network", "ipc", "uts", "mount", "user"],
  ids: "nobody",
  capabilities: () => ({
    effective: SENTRY_CAPABILITIES,
    permitted: SENTRY_CAPABILITIES,
    inheritable: SENTRY_CAPABILITIES,
    ambient: SENTRY_CAPABILITIES,
    bounding: null, // says what a program it executes could gain, and its filter lets it execute none
  }),
  maskedPaths: [],
  readOnlyPaths: [],
  // An empty root; the tenant's files are behind the gofer, a second process with the tenant's ids and the root as its own.
  mayMount: () => ["/", "/proc"],
  mustMount: () => ({ "/": ["ro"] }),
  devices: {},
  openFiles: false,
}

const PROMISES: Readonly<Record<Profile, ProfilePromise>> = { hardened: HARDENED, sandboxed: SANDBOXED }

export const promiseOf = (profile: Profile): ProfilePromise => PROMISES[profile]
