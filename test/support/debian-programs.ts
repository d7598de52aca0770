/**
 * One Debian 12 root with the programs that people run in containers. Made once on a machine from apt's mirror (about a minute)
 * and kept outside the checkout under a name that says what is in it.
 */
import { execFileSync } from "node:child_process"
import { createHash } from "node:crypto"
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, statSync } from "node:fs"
import { join } from "node:path"
import { debianMirror } from "./images.ts"

const CACHE = "/var/cache/berth-tests"

const PACKAGES = [
  "docker-registry", "gcc", "libc6-dev", "nginx-light", "nodejs", "openjdk-17-jdk-headless", "perl", "postgresql-15", "python3",
  "redis-server", "wget", "xz-utils",
] // prettier-ignore

/** What a mirror that answers takes, and then some. */
const BUILD_TIMEOUT_MS = 10 * 60_000
/** A build that was killed leaves its folder; no build takes this long. */
const ABANDONED_MS = 60 * 60_000

/** The directory of the root. Throws a sentence when it is not there and cannot be made. */
export function debianPrograms(): string {
  const root = join(CACHE, `debian-12-${createHash("sha256").update(PACKAGES.join(" ")).digest("hex").slice(0, 12)}`)
  if (existsSync(root)) return root
  mkdirSync(CACHE, { recursive: true, mode: 0o711 })
  for (const name of readdirSync(CACHE)) {
    const old = Date.now() - statSync(join(CACHE, name)).mtimeMs > ABANDONED_MS
    if (name.startsWith("new-") && old) rmSync(join(CACHE, name), { recursive: true, force: true })
  }
  const fresh = mkdtempSync(join(CACHE, "new-"))
  try {
    const build = [
      "--variant=minbase",
      "--dpkgopt=force-unsafe-io",
      `--include=${PACKAGES.join(",")}`,
      "bookworm",
      join(fresh, "root"),
    ]
    execFileSync("mmdebstrap", [...build, debianMirror()], { stdio: ["ignore", "ignore", "pipe"], timeout: BUILD_TIMEOUT_MS })
    renameSync(join(fresh, "root"), root)
  } catch (cause) {
    const why = "Real programs are tested in a Debian root that mmdebstrap makes from apt's mirror, and it could not make one."
    throw new Error(`${why} Is ${debianMirror()} reached from here?`, { cause })
  } finally {
    rmSync(fresh, { recursive: true, force: true })
  }
  return root
}
