import { describe, expect, it } from "vitest"
import { stringify } from "yaml"
import { inventoryOf } from "../../../node-bridge/device/inventory.ts"
import type { SpecFile } from "../../../node-bridge/device/inventory.ts"

const node = (path: string, more: object = {}) => ({ path, ...more })
const device = (name: string, edits: object = { deviceNodes: [node(`/dev/${name}`)] }, more: object = {}) => ({
  name,
  containerEdits: edits,
  ...more,
})
const aSpec = (changes: object = {}) => ({ cdiVersion: "0.7.0", kind: "test.example/gpu", devices: [device("d0")], ...changes })
const file = (spec: unknown, path = "/etc/cdi/a.json", priority = 0): SpecFile => ({
  path,
  priority,
  text: path.endsWith(".json") ? JSON.stringify(spec) : stringify(spec),
})
const gpu = (index: number, ...more: string[]) => ({ deviceNodes: [`/dev/nvidia${index}`, ...more].map((path) => node(path)) })
const read = (...files: SpecFile[]) => inventoryOf(files, new Set(["/usr/bin/allowed"]))
const names = (...files: SpecFile[]) => [...read(...files).devices.keys()]
const planOf = (edits: object, name = "d0") =>
  read(file(aSpec({ devices: [device(name, edits)] }))).devices.get(`test.example/gpu=${name}`)?.plan

describe("descriptions of devices", () => {
  it("are read as JSON and as YAML", () => {
    expect(names(file(aSpec()), file(aSpec({ kind: "other.example/npu" }), "/etc/cdi/b.yaml"))).toEqual([
      "test.example/gpu=d0",
      "other.example/npu=d0",
    ])
  })

  it("in a later directory win", () => {
    const later = aSpec({ devices: [device("d0", { deviceNodes: [node("/dev/other")] })] })
    const { devices, problems } = read(file(later, "/var/run/cdi/a.json", 1), file(aSpec()))
    expect(devices.get("test.example/gpu=d0")?.plan).toMatchObject({ nodes: [{ path: "/dev/other" }] })
    expect(problems).toEqual([])
  })

  it("of one device in one directory cancel each other, and nothing else", () => {
    const both = read(file(aSpec()), file(aSpec({ devices: [device("d0"), device("d1")] }), "/etc/cdi/b.json"))
    expect([...both.devices.keys()]).toEqual(["test.example/gpu=d1"])
    expect(both.problems).toEqual(["test.example/gpu=d0 is not offered: /etc/cdi/a.json and /etc/cdi/b.json both describe it"])
  })

  it("that give one device several names give it out by the first", () => {
    const edits = { deviceNodes: [node("/dev/d0")] }
    const { devices, problems } = read(file(aSpec({ devices: [device("0", edits), device("GPU-1234", edits)] })))
    expect([...devices.keys()]).toEqual(["test.example/gpu=0"])
    expect(problems).toHaveLength(1)
  })

  it("have no device that stands for all", () => {
    expect(
      names(file(aSpec({ devices: [device("d0"), device("all", { deviceNodes: [node("/dev/d0"), node("/dev/d1")] })] }))),
    ).toEqual(["test.example/gpu=d0"])
  })

  it.each([
    ["that are no JSON", { path: "/etc/cdi/x.json", priority: 0, text: "{" }],
    ["that are no YAML", { path: "/etc/cdi/x.yaml", priority: 0, text: "a: [" }],
    ["with YAML that grows", { path: "/etc/cdi/x.yaml", priority: 0, text: "a: &a [1]\nb: [*a, *a]" }],
    ["that are empty", { path: "/etc/cdi/x.yaml", priority: 0, text: "" }],
    ["with a field that nobody knows", file(aSpec({ surprise: 1 }), "/etc/cdi/x.json")],
    ["with an unknown edit", file(aSpec({ devices: [device("d0", { privileged: true })] }), "/etc/cdi/x.json")],
    ["without a device", file(aSpec({ devices: [] }), "/etc/cdi/x.json")],
    ["with a device twice", file(aSpec({ devices: [device("d0"), device("d0", { env: ["A=b"] })] }), "/etc/cdi/x.json")],
    ["of a version to come", file(aSpec({ cdiVersion: "2.0.0" }), "/etc/cdi/x.json")],
    ["that use what came after their version", file(aSpec({ cdiVersion: "0.4.0", devices: [device("0")] }), "/etc/cdi/x.json")],
    ["with a bad kind", file(aSpec({ kind: "gpu" }), "/etc/cdi/x.json")],
    ["with a bad name", file(aSpec({ devices: [device("-x")] }), "/etc/cdi/x.json")],
    [
      "with a path that climbs",
      file(aSpec({ devices: [device("d0", { deviceNodes: [node("/dev/../etc/x")] })] }), "/etc/cdi/x.json"),
    ],
    [
      "with a relative path",
      file(aSpec({ devices: [device("d0", { mounts: [{ hostPath: "x", containerPath: "/x" }] })] }), "/etc/cdi/x.json"),
    ],
  ])("%s are said and take nothing else with them", (_, bad) => {
    const { devices, problems } = read(bad, file(aSpec({ kind: "good.example/gpu" }), "/etc/cdi/good.json"))
    expect([...devices.keys()]).toEqual(["good.example/gpu=d0"])
    expect(problems).toEqual([expect.stringMatching(/^\/etc\/cdi\/x\.(json|yaml) is not used: /)])
  })
})

describe("what a container gets with a device", () => {
  it("has the file's edits and the device's", () => {
    const spec = aSpec({
      containerEdits: { env: ["A=1"], deviceNodes: [node("/dev/ctl")] },
      devices: [
        device("d0", {
          env: ["B=2"],
          deviceNodes: [
            node("/dev/d0", { hostPath: "/srv/d0", type: "c", major: 10, minor: 232, fileMode: 0o4777, permissions: "rwm" }),
          ],
          mounts: [
            {
              hostPath: "/usr/lib/a.so",
              containerPath: "/usr/lib//a.so",
              options: ["ro", "nosuid", "nodev", "rbind", "rprivate"],
            },
          ],
          hooks: [{ hookName: "createContainer", path: "/usr/bin/allowed", args: ["allowed", "x"], env: ["H=1"], timeout: 500 }],
          additionalGids: [0, 44],
        }),
      ],
    })
    expect(read(file(spec)).devices.get("test.example/gpu=d0")?.plan).toEqual({
      env: ["A=1", "B=2"],
      nodes: [
        expect.objectContaining({ path: "/dev/ctl", hostPath: "/dev/ctl", type: null, major: null, access: "rw", mode: null }),
        expect.objectContaining({
          path: "/dev/d0",
          hostPath: "/srv/d0",
          type: "c",
          major: 10,
          minor: 232,
          access: "rw",
          mode: 0o666,
        }),
      ],
      mounts: [{ hostPath: "/usr/lib/a.so", path: "/usr/lib/a.so", writable: false, executable: true }],
      hooks: [{ path: "/usr/bin/allowed", args: ["allowed", "x"], env: ["H=1"], timeoutSeconds: 50 }],
      additionalGids: [44],
    })
  })

  it.each([
    ["a hook that nobody allowed", { hooks: [{ hookName: "createRuntime", path: "/usr/bin/evil" }] }, "is not among those"],
    ["a hook inside the container", { hooks: [{ hookName: "startContainer", path: "/usr/bin/allowed" }] }, "startContainer"],
    ["a mount over /proc", { mounts: [{ hostPath: "/x", containerPath: "/proc/sys" }] }, "would lie in /proc"],
    ["a mount over the root", { mounts: [{ hostPath: "/x", containerPath: "//" }] }, "may not mount at /"],
    ["a mount over our hosts", { mounts: [{ hostPath: "/x", containerPath: "/etc/hosts" }] }, "may not mount at /etc/hosts"],
    ["a mount that spreads", { mounts: [{ hostPath: "/x", containerPath: "/x", options: ["rshared"] }] }, 'asks for "rshared"'],
    ["a mount with devices", { mounts: [{ hostPath: "/x", containerPath: "/x", options: ["dev"] }] }, 'asks for "dev"'],
    [
      "a file system",
      { mounts: [{ hostPath: "proc", containerPath: "/x", type: "proc" }].map((m) => ({ ...m, hostPath: "/p" })) },
      "of type proc",
    ],
    ["a node outside /dev", { deviceNodes: [node("/etc/kvm")] }, "would not lie in /dev"],
    ["a node in place of null", { deviceNodes: [node("/dev/null", { hostPath: "/dev/sda" })] }, "in the place of a standard one"],
    ["a node in /dev/pts", { deviceNodes: [node("/dev/pts/0")] }, "in the place of a standard one"],
    ["a pipe", { deviceNodes: [node("/dev/x", { type: "p" })] }, "of type p"],
    ["an id beyond the container's", { additionalGids: [70_000] }, "group 70000"],
    ["an interface", { netDevices: [{ hostInterfaceName: "eth0", name: "eth0" }] }, "network interfaces"],
    ["a cache class", { intelRdt: { closID: "x" } }, "intelRdt"],
  ])("is refused with %s", (_, edits, why) => {
    const spec = aSpec({ cdiVersion: "1.1.0", devices: [device("d0", edits)] })
    const { devices, problems } = read(file(spec))
    expect(devices.get("test.example/gpu=d0")?.plan).toEqual({ refused: expect.stringContaining(why) })
    expect(problems).toHaveLength(1)
  })

  it("never lets a container make nodes", () => {
    for (const [permissions, access] of [
      ["m", ""],
      ["none", ""],
      ["rm", "r"],
      ["", "rw"],
    ]) {
      expect(planOf({ deviceNodes: [node("/dev/x", { permissions })] })).toMatchObject({ nodes: [{ access }] })
    }
  })
})

const parents = (kind: string, devices: object[]) =>
  Object.fromEntries(
    [...read(file(aSpec({ kind, devices }))).devices.values()].map(({ name, parent }) => [name.split("=")[1], parent]),
  )

describe("the whole that a slice is a part of", () => {
  it("is what its annotation says", () => {
    const half = device("half", undefined, { annotations: { "berth.parent": "d0" } })
    expect(parents("any.example/card", [device("d0"), half])).toEqual({ d0: null, half: "any.example/card=d0" })
  })

  it("is read off the names that NVIDIA's tool gives", () => {
    const slices = [
      device("0", gpu(0)),
      device("1:0", gpu(1, "/dev/nvidia-caps/nvidia-cap1")),
      device("mig2:1", { env: ["A=1"] }),
    ]
    expect(parents("nvidia.com/gpu", slices)).toEqual({ "0": null, "1:0": "nvidia.com/gpu=1", "mig2:1": "nvidia.com/gpu=gpu2" })
  })

  it("is found by its node when the slice is named by its serial number, also across kinds", () => {
    const slice = (cap: number) => gpu(0, `/dev/nvidia-caps/nvidia-cap${cap}`)
    expect(parents("nvidia.com/gpu", [device("0", gpu(0)), device("MIG-a", slice(1)), device("MIG-b", slice(2))])).toEqual({
      "0": null,
      "MIG-a": "nvidia.com/gpu=0",
      "MIG-b": "nvidia.com/gpu=0",
    })
    const both = read(
      file(aSpec({ kind: "nvidia.com/gpu", devices: [device("0", gpu(0))] })),
      file(aSpec({ kind: "nvidia.com/mig-1g.10gb", devices: [device("MIG-a", slice(1))] }), "/etc/cdi/mig.json"),
    )
    expect(both.devices.get("nvidia.com/mig-1g.10gb=MIG-a")?.parent).toBe("nvidia.com/gpu=0")
  })
})
