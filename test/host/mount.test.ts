import { execFile } from "node:child_process"
import { chmodSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { promisify } from "node:util"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { StoredIdRanges } from "../../node-bridge/mount/id-ranges.ts"
import { IdmappedRoots } from "../../node-bridge/mount/root-mounts.ts"
import { TenantNamespaces } from "../../node-bridge/mount/user-namespaces.ts"
import { formatId } from "../../schema/ids.ts"
import { temporaryFolder } from "../support/images.ts"
import { leftovers, snapshot } from "../support/leftovers.ts"
import { waitFor } from "../support/wait-for.ts"

const call = promisify(execFile)
const aTenant = (number: number) => formatId("ten", number, new Uint8Array(10))
const [ANNA, BERT] = [aTenant(1), aTenant(2)]

/** Runs a script as root of a user namespace. */
async function inside(path: string, script: string): Promise<string> {
  return (await call("nsenter", [`--user=${path}`, "--setuid", "0", "--setgid", "0", "sh", "-c", script])).stdout
}

let dir = ""
let ranges: StoredIdRanges
let namespaces: TenantNamespaces

beforeEach(async () => {
  dir = temporaryFolder("mount")
  ranges = await StoredIdRanges.open(join(dir, "state", "tenants.json"), new Set())
  namespaces = new TenantNamespaces(ranges)
})

afterEach(async () => {
  await namespaces.close()
  rmSync(dir, { recursive: true })
})

describe("the id ranges of tenants", () => {
  it("are the same after a restart, and a new tenant's is new", async () => {
    const [anna, bert] = await Promise.all([ranges.rangeOf(ANNA), ranges.rangeOf(BERT)])
    expect(new Set([anna.hostBase, bert.hostBase]).size).toBe(2)
    const again = await StoredIdRanges.open(join(dir, "state", "tenants.json"), new Set())
    expect(await again.rangeOf(BERT)).toEqual(bert)
    expect((await again.rangeOf(aTenant(3))).hostBase).toBeGreaterThan(Math.max(anna.hostBase, bert.hostBase))
  })

  it("are not begun anew over a file that cannot be read", async () => {
    const file = join(dir, "broken.json")
    writeFileSync(file, '{"version":1,')
    await expect(StoredIdRanges.open(file, new Set())).rejects.toThrow(/cannot be read/)
    expect(readFileSync(file, "utf8")).toBe('{"version":1,')
  })

  it("survive a crash that left a half-written file beside the whole one", async () => {
    const anna = await ranges.rangeOf(ANNA)
    writeFileSync(join(dir, "state", "tenants.json.new"), "{")
    const again = await StoredIdRanges.open(join(dir, "state", "tenants.json"), new Set())
    expect(await again.rangeOf(ANNA)).toEqual(anna)
    await again.rangeOf(BERT)
  })
})

describe("a tenant's user namespace", () => {
  it("maps root inside to the tenant's first id, and belongs to the tenant's own uid", async () => {
    const { hostBase, size } = await ranges.rangeOf(ANNA)
    const { path } = await namespaces.of(ANNA)
    expect((await inside(path, "cat /proc/self/uid_map /proc/self/gid_map")).trim().split(/\s+/)).toEqual(
      ["0", hostBase, size, "0", hostBase, size].map(String),
    )
    // NS_GET_OWNER_UID of ioctl_ns(2): whose counters the kernel charges.
    const script = "import fcntl, struct, sys; print(struct.unpack('I', fcntl.ioctl(open(sys.argv[1]), 0xB704, b'    '))[0])"
    expect((await call("python3", ["-c", script, path])).stdout.trim()).toBe(String(hostBase))
  })

  it("is made once however many ask, and is another tenant's never", async () => {
    const [one, two, other] = await Promise.all([namespaces.of(ANNA), namespaces.of(ANNA), namespaces.of(BERT)])
    expect(one).toEqual(two)
    expect(other.path).not.toBe(one.path)
  })

  it("allows no user namespaces inside, and has caps of its own", async () => {
    const { path } = await namespaces.of(ANNA)
    await expect(inside(path, "unshare --user true")).rejects.toThrow(/No space left/)
    expect(await inside(path, "cat /proc/sys/user/max_net_namespaces /proc/sys/user/max_inotify_watches")).toBe("0\n65536\n")
  })

  it("leaves no process behind, neither while it is held nor after", async () => {
    const { hostBase } = await ranges.rangeOf(ANNA)
    await namespaces.of(ANNA)
    const alive = () =>
      readdirSync("/proc")
        .filter((name) => /^\d+$/.test(name))
        .filter((pid) => {
          try {
            const status = readFileSync(`/proc/${pid}/status`, "utf8")
            return status.includes(`Uid:\t${hostBase}\t`) && !/State:\tZ/.test(status)
          } catch {
            return false
          }
        })
    // The helper ends when it sees its pipe closed, a moment after the namespace is handed out.
    await waitFor("the helper's end", () => alive().length === 0)
  })
})

describe("an image's root as a tenant's own", () => {
  it("belongs to the tenant through an overlay in another mount namespace, while the image keeps its owner", async () => {
    const root = join(dir, "root")
    for (const folder of ["root", "upper", "work", "merged"]) mkdirSync(join(dir, folder))
    writeFileSync(join(root, "file"), "content")
    chmodSync(dir, 0o711) // a container sees only its root; here the tenant walks there
    const roots = new IdmappedRoots((range) => namespaces.descriptor(range))
    const range = await ranges.rangeOf(ANNA)
    const { path: userns } = await namespaces.of(ANNA)
    const lower = await roots.idmapped(root, range)
    const before = snapshot([])
    const script = `
      chown ${range.hostBase}:${range.hostBase} upper
      mount -t overlay o -o lowerdir=${lower.path},upperdir=upper,workdir=work,nosuid,nodev merged
      stat -c %u merged/file
      nsenter --user=${userns} --setuid 0 --setgid 0 sh -c 'stat -c %u merged/file; echo new > merged/made; echo more >> merged/file'
      stat -c %u merged/made; cat merged/file`
    const { stdout } = await call("unshare", ["--mount", "--propagation=slave", "sh", "-ec", script], { cwd: dir })
    expect(stdout.split("\n")).toEqual([String(range.hostBase), "0", String(range.hostBase), "contentmore", ""])
    expect(statSync(join(root, "file")).uid).toBe(0)
    expect(readFileSync(join(root, "file"), "utf8")).toBe("content")
    expect(leftovers(before, snapshot([])).filter((item) => item.startsWith("mounts"))).toEqual([])
    lower.release()
  })

  it("is one mount for all who hold it, and gone when the last lets go", async () => {
    const roots = new IdmappedRoots((range) => namespaces.descriptor(range))
    const range = await ranges.rangeOf(ANNA)
    const [first, second] = [await roots.idmapped(dir, range), await roots.idmapped(dir, range)]
    expect(first.path).toBe(second.path)
    first.release()
    first.release()
    expect(statSync(second.path).isDirectory()).toBe(true)
    second.release()
    expect(() => statSync(`${first.path}/state`)).toThrow()
  })

  it("cannot be had of a file system without ids to map, and says so", async () => {
    const roots = new IdmappedRoots((range) => namespaces.descriptor(range))
    await expect(roots.idmapped("/proc", await ranges.rangeOf(ANNA))).rejects.toMatchObject({
      reason: { code: "idmap_unsupported" },
    })
  })
})
