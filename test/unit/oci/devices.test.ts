import { expect, test } from "vitest"
import type { Grant } from "../../../node-bridge/device/grant.ts"
import { deviceMounts, deviceRules, withDeviceEnv } from "../../../node-bridge/oci/devices.ts"

const node = { path: "/dev/kvm", type: "c" as const, major: 10, minor: 232, access: "rw", mode: 0o600, uid: null, gid: null }
const aGrant = (changes: Partial<Grant> = {}): Grant => ({
  env: [],
  nodes: [node, { ...node, path: "/dev/net/tun", minor: 200, access: "" }],
  mounts: [],
  additionalGids: [],
  hooks: [],
  ...changes,
})

test("each node is bound from one of the run's own, and opened by a rule of its own", () => {
  expect(deviceMounts(aGrant(), "/m/dev")).toEqual([
    { destination: "/dev/kvm", type: "bind", source: "/m/dev/0", options: ["bind", "nosuid", "noexec"] },
    { destination: "/dev/net/tun", type: "bind", source: "/m/dev/1", options: ["bind", "nosuid", "noexec"] },
  ])
  expect(deviceRules(aGrant())).toEqual([{ allow: true, type: "c", major: 10, minor: 232, access: "rw" }])
})

test("a device's files hold no devices and no setuid programs, and are read-only unless it says otherwise", () => {
  const file = { source: "/lib/a.so", isDirectory: false, path: "/usr/lib/a.so", writable: false, executable: false }
  const mounts = [file, { ...file, path: "/run/x", writable: true, executable: true }]
  expect(deviceMounts(aGrant({ nodes: [], mounts }), "/m/dev").map(({ options }) => options)).toEqual([
    ["rbind", "rprivate", "nosuid", "nodev", "ro", "noexec"],
    ["rbind", "rprivate", "nosuid", "nodev", "rw"],
  ])
})

test("a device's variables replace those of the same name", () => {
  const grant = aGrant({ env: ["VISIBLE=0", "EMPTY="] })
  expect(withDeviceEnv(["PATH=/bin", "VISIBLE=all", "VISIBLE_TOO=1"], grant)).toEqual([
    "PATH=/bin",
    "VISIBLE_TOO=1",
    "VISIBLE=0",
    "EMPTY=",
  ])
  expect(withDeviceEnv(["A=1"], null)).toEqual(["A=1"])
})
