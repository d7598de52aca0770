import { expect, test } from "vitest"
import { ownProcs, parseCgroupLayout } from "../../../node-bridge/runtime/cgroup-layout.ts"

const V1 = `31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd`
const V2 = "31 23 0:28 / /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate"

test("v2 alone", () => {
  const layout = parseCgroupLayout(V2)
  expect([layout.version, layout.mounts.get("unified"), layout.hidden]).toEqual([2, "/sys/fs/cgroup", null])
})

test("v1 alone, with joined controllers", () => {
  const layout = parseCgroupLayout(V1)
  expect(layout.version).toBe(1)
  expect(layout.mounts.get("cpuacct")).toBe("/sys/fs/cgroup/cpu,cpuacct")
  expect(layout.all).toEqual(["/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/systemd"])
  expect(layout.hidden).toBeNull()
})

test("both: v1 limits, and the v2 one must be hidden from crun", () => {
  const layout = parseCgroupLayout(`${V1}\n41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw`)
  expect([layout.version, layout.hidden]).toEqual([1, "/sys/fs/cgroup/unified"])
  expect(layout.all).toContain("/sys/fs/cgroup/unified")
})

test("none", () => {
  expect(parseCgroupLayout("21 1 8:1 / / rw - ext4 /dev/vda rw").mounts.size).toBe(0)
})

test("the own cgroup of a process, in the first hierarchy that is mounted", () => {
  const v1 = "9:name=systemd:/user\n8:pids:/\n2:cpu,cpuacct:/system/a:b\n1:memory:/x\n"
  expect(ownProcs(parseCgroupLayout(V1), v1)).toBe("/sys/fs/cgroup/cpu,cpuacct/system/a:b/cgroup.procs")
  expect(ownProcs(parseCgroupLayout(V2), "0::/system.slice/berth.service\n")).toBe(
    "/sys/fs/cgroup/system.slice/berth.service/cgroup.procs",
  )
  expect(ownProcs(parseCgroupLayout(V1), "0::/\n")).toBeNull()
})
