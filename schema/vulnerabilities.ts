/**
 * Known vulnerabilities of what a node runs containers with, told by version numbers: the program's own, and the package's
 * where Debian mended one without changing that. Pure. Left out is what needs a feature that no node-bridge uses:
 * checkpoints, krun.
 *
 * Sources: runc's CHANGELOG.md, crun's NEWS and release notes up to 1.30, GHSA-fcm2-6c3h-pg6j (conmon), the CVE record of
 * CVE-2025-2713 (runsc), and for kernels https://github.com/nluedtke/linux_kernel_cves (data/stream_fixes.json). Debian's
 * own fixes: DLA-3369-1, and the changelog of runc 1.1.5+ds1-1+deb12u1; those of crun, conmon and gVisor name none.
 */
import { compareDebianVersions } from "./debian-version.ts"

export interface Vulnerability {
  readonly component: string
  readonly version: string
  readonly id: string
  readonly fixed_in: string
  readonly summary: string
}

interface Known {
  readonly component: "kernel" | "runc" | "crun" | "runsc" | "conmon"
  readonly id: string
  /** The first version that has it; absent: all before the fix. */
  readonly since?: string
  /** The first mended version of each release branch, lowest first. Branches not named that are newer than the last are mended. */
  readonly fixed: readonly [string, ...string[]]
  /** The first mended version of the source package in a release of a distribution, such as `debian:12`. */
  readonly packages?: Readonly<Record<string, string>>
  readonly summary: string
}

const KNOWN: readonly Known[] = [
  {
    component: "runc",
    id: "CVE-2019-5736",
    fixed: ["1.0.0-rc7"],
    summary: "A container can overwrite the runtime's own program on the host.",
  },
  {
    component: "runc",
    id: "CVE-2022-29162",
    fixed: ["1.1.2"],
    packages: { "debian:10": "1.0.0~rc6+dfsg1-3+deb10u2" },
    summary: "Further processes begin with inheritable capabilities.",
  },
  {
    component: "runc",
    id: "CVE-2023-28642",
    fixed: ["1.1.5"],
    packages: { "debian:10": "1.0.0~rc6+dfsg1-3+deb10u2" },
    summary: "A link for /proc in the image undoes confinement.",
  },
  {
    component: "runc",
    id: "CVE-2024-21626",
    fixed: ["1.1.12"],
    packages: { "debian:12": "1.1.5+ds1-1+deb12u1" },
    summary: "A descriptor of the host's file system leaks into the container's first process.",
  },
  {
    component: "runc",
    id: "CVE-2024-45310",
    fixed: ["1.1.14", "1.2.0-rc.3"],
    summary: "Shared volumes can be raced into making empty files on the host.",
  },
  {
    component: "runc",
    id: "CVE-2025-31133",
    fixed: ["1.2.8", "1.3.3", "1.4.0-rc.3"],
    summary: "Masking of paths can be turned to a writable mount of the host's /proc.",
  },
  {
    component: "runc",
    id: "CVE-2025-52565",
    fixed: ["1.2.8", "1.3.3", "1.4.0-rc.3"],
    summary: "The mount of /dev/console can be turned to a path of the host's /proc.",
  },
  {
    component: "runc",
    id: "CVE-2025-52881",
    fixed: ["1.2.8", "1.3.3", "1.4.0-rc.3"],
    summary: "The runtime's own writes to /proc can be sent elsewhere on the host.",
  },
  {
    component: "runc",
    id: "CVE-2026-41579",
    fixed: ["1.3.6", "1.4.3", "1.5.0-rc.3"],
    summary: "An image whose /dev is a link has entries made on the host.",
  },
  {
    component: "crun",
    id: "CVE-2022-27650",
    fixed: ["1.4.4"],
    summary: "Further processes begin with inheritable capabilities.",
  },
  {
    component: "crun",
    id: "CVE-2026-30892",
    since: "1.19",
    fixed: ["1.27"],
    summary: "The user of a further process is read wrongly and may become root.",
  },
  {
    component: "crun",
    id: "CVE-2026-47766",
    fixed: ["1.28"],
    summary: "An image whose /dev is a link has device nodes made on the host.",
  },
  {
    component: "crun",
    id: "CVE-2026-88264",
    fixed: ["1.30"],
    summary: "An image whose /dev/console is a link has a file made on the host.",
  },
  {
    component: "crun",
    id: "CVE-2026-88265",
    fixed: ["1.30"],
    summary: "An image whose /dev/null is a link gets a descriptor of what it points to.",
  },
  {
    component: "runsc",
    id: "CVE-2025-2713",
    fixed: ["20250319.0"],
    summary: "Files of the host can be read before the sandbox gives up its rights.",
  },
  { component: "conmon", id: "CVE-2022-1708", fixed: ["2.1.2"], summary: "Output of further processes fills the host's disk." },
  {
    component: "kernel",
    id: "CVE-2022-0185",
    since: "5.1",
    fixed: ["5.4.173", "5.10.93", "5.15.16", "5.16.2"],
    summary: "A mount option overflows the kernel's heap, from within a user namespace.",
  },
  {
    component: "kernel",
    id: "CVE-2022-0492",
    fixed: ["4.9.301", "4.14.266", "4.19.229", "5.4.177", "5.10.97", "5.15.20", "5.16.6"],
    summary: "A cgroup v1 release agent can be set from within a container.",
  },
  {
    component: "kernel",
    id: "CVE-2022-0847",
    since: "5.8",
    fixed: ["5.10.102", "5.15.25", "5.16.11"],
    summary: "Pages of files that may only be read can be overwritten through a pipe.",
  },
  {
    component: "kernel",
    id: "CVE-2022-2586",
    since: "3.16",
    fixed: ["4.14.316", "4.19.256", "5.4.211", "5.10.137", "5.15.61", "5.18.18", "5.19.2"],
    summary: "nf_tables uses memory after it was freed.",
  },
  {
    component: "kernel",
    id: "CVE-2023-0386",
    since: "5.11",
    fixed: ["5.15.91", "6.1.9", "6.2.0"],
    summary: "overlayfs copies a setuid file out of a file system of another owner.",
  },
  {
    component: "kernel",
    id: "CVE-2023-32233",
    fixed: ["4.14.315", "4.19.283", "5.4.243", "5.10.180", "5.15.111", "6.1.28", "6.2.15", "6.3.2"],
    summary: "nf_tables uses memory after it was freed.",
  },
  {
    component: "kernel",
    id: "CVE-2024-1086",
    since: "3.15",
    fixed: ["4.19.307", "5.4.269", "5.10.210", "5.15.149", "6.1.76", "6.6.15", "6.7.3"],
    summary: "nf_tables frees memory twice.",
  },
]

/** In `NodeFacts.versions`: which package a program is of, as in `debian:12 1.1.5+ds1-1+deb12u1`. */
export const packageKey = (component: string) => `${component}_package`

/**
 * What is known of the versions that a node reports, by the names of `NodeFacts.versions`. `kernel_build` is the kernel's
 * own line about its build: Debian keeps the stable version there and only its own count in the release.
 */
export function knownVulnerabilities(versions: Readonly<Record<string, string>>): Vulnerability[] {
  return KNOWN.flatMap(({ component, id, since, fixed, packages = {}, summary }) => {
    if (isMended(versions[packageKey(component)], packages)) return []
    const reported = component === "kernel" ? kernelOf(versions) : versions[component]
    const version = reported === undefined ? undefined : parse(reported)
    if (reported === undefined || version === undefined || isFixed(version, fixed)) return []
    if (since !== undefined && compare(version, parse(since) ?? []) < 0) return []
    const fixed_in = fixed.find((one) => compare(parse(one) ?? [], version) > 0) ?? fixed[0]
    return [{ component, version: reported, id, fixed_in, summary }]
  })
}

function isMended(reported: string | undefined, packages: Readonly<Record<string, string>>): boolean {
  const [release = "", version = ""] = reported?.split(" ") ?? []
  const mended = packages[release]
  return mended !== undefined && compareDebianVersions(version, mended) >= 0
}

const kernelOf = ({ kernel, kernel_build = "" }: Readonly<Record<string, string>>) =>
  /\bDebian (\d+\.\d+\.\d+)/.exec(kernel_build)?.[1] ?? kernel

/** Major, minor, patch, and the release candidate's number, which is infinite for a release. */
type Version = readonly number[]

/** `1.1.5+ds1`, `1.0.0-rc93`, `1.4.0-rc.3`, `6.1.0-40-amd64`, `release-20250319.0`, `0.0~20221219.0`; undefined for no version. */
function parse(text: string): Version | undefined {
  const dated = /\b(20\d{6})\b/.exec(text)
  if (dated) return [Number(dated[1]), 0, 0, Number.POSITIVE_INFINITY]
  const found = /(\d+)\.(\d+)(?:\.(\d+))?(?:-rc\.?(\d+))?/.exec(text)
  if (found === null) return undefined
  const [, major, minor, patch = "0", candidate] = found
  return [Number(major), Number(minor), Number(patch), candidate === undefined ? Number.POSITIVE_INFINITY : Number(candidate)]
}

function compare(a: Version, b: Version): number {
  for (let i = 0; i < Math.max(a.length, b.length); i++) {
    const [x, y] = [a[i] ?? 0, b[i] ?? 0]
    if (x !== y) return x < y ? -1 : 1
  }
  return 0
}

const branchOf = (version: Version): Version => version.slice(0, 2)

function isFixed(version: Version, fixed: readonly string[]): boolean {
  const mended = fixed.map((one) => parse(one) ?? [])
  const sameBranch = mended.find((one) => compare(branchOf(one), branchOf(version)) === 0)
  if (sameBranch !== undefined) return compare(version, sameBranch) >= 0
  return mended.every((one) => compare(branchOf(version), branchOf(one)) > 0)
}
