import { describe, expect, it } from "vitest"
import { readConfig } from "../../../node-bridge/config.ts"

const GOOD = ["--state", "/tmp/x", "--url", "https://berth.example"]

describe("the bridge's configuration", () => {
  it("takes arguments before the environment", () => {
    expect(
      readConfig(["--url", "https://a.example"], { BERTH_URL: "https://b.example", BERTH_NODE_STATE: "/tmp/x" }),
    ).toMatchObject({
      url: "https://a.example",
      state: "/tmp/x",
      controller: "oci",
      runtime: "crun",
      parallelStarts: expect.any(Number),
    })
  })

  it("takes labels and capacity", () => {
    const config = readConfig([...GOOD, "--label", "region=eu", "--label", "note=a=b", "--capacity-cpus", "1.5"], {})
    expect(config).toMatchObject({ labels: { region: "eu", note: "a=b" }, capacity: { cpus: 1.5 } })
  })

  it("takes the profiles to offer, and refuses what is none", () => {
    expect(readConfig(GOOD, {})).not.toHaveProperty("profiles", expect.anything())
    expect(readConfig([...GOOD, "--profiles", "hardened,sandboxed"], {})).toMatchObject({ profiles: ["hardened", "sandboxed"] })
    expect(() => readConfig([...GOOD, "--profiles", "open"], {})).toThrow(/--profiles takes hardened, sandboxed/)
  })

  it("promises the disk once, unless the operator bets on more", () => {
    expect(readConfig(GOOD, {})).toMatchObject({ diskOvercommit: 1 })
    expect(readConfig([...GOOD, "--disk-overcommit", "2.5"], {})).toMatchObject({ diskOvercommit: 2.5 })
  })

  it("takes the provider's networks, of both protocols", () => {
    const ranges = ["198.51.100.0/24", "2001:db8::/32"]
    expect(readConfig([...GOOD, ...ranges.flatMap((range) => ["--provider-range", range])], {})).toMatchObject({
      providerRanges: ranges,
    })
    expect(readConfig(GOOD, {})).toMatchObject({ providerRanges: [] })
  })

  it("takes device descriptions, hooks and programs by absolute paths", () => {
    const args = [
      "--cdi-dir",
      "/etc/cdi",
      "--cdi-dir",
      "/srv/cdi",
      "--cdi-hook",
      "/usr/bin/hook",
      "--device-scrub",
      "/usr/bin/scrub",
    ]
    expect(readConfig([...GOOD, ...args], {})).toMatchObject({
      cdiDirs: ["/etc/cdi", "/srv/cdi"],
      cdiHooks: ["/usr/bin/hook"],
      deviceScrub: "/usr/bin/scrub",
    })
    expect(() => readConfig([...GOOD, "--device-scrub", "scrub"], {})).toThrow("--device-scrub must be an absolute path.")
  })

  it("takes plain http to this machine alone", () => {
    for (const url of ["http://127.0.0.1:8080", "http://localhost", "http://[::1]:1"]) {
      expect(readConfig(["--state", "/tmp/x", "--url", url], {})).toMatchObject({ url })
    }
    expect(() => readConfig(["--state", "/tmp/x", "--url", "http://127.0.0.1.example"], {})).toThrow(
      "only be http:// when it names this machine",
    )
  })

  it.each([
    ["no state", ["--url", "https://a.example"], "give a state directory with --state."],
    ["no address", ["--state", "/tmp/x"], "give the platform's address with --url."],
    ["an address that is none", [...GOOD, "--url", "berth"], "--url must be an address such as https://berth.example."],
    ["another protocol", [...GOOD, "--url", "ftp://a.example"], "--url must begin with https://."],
    ["an unknown option", [...GOOD, "--frob"], "Unknown option '--frob'; --help lists the options."],
    ["a wrong controller", [...GOOD, "--controller", "docker"], "--controller must be oci or fake."],
    ["a label without value", [...GOOD, "--label", "region"], '--label must be KEY=VALUE, not "region".'],
    ["a label with a bad key", [...GOOD, "--label", "_x=1"], "--label: "],
    ["a capacity that is no number", [...GOOD, "--capacity-runs", "many"], "--capacity-runs must be a number."],
    ["a provider's network that is none", [...GOOD, "--provider-range", "lan"], "--provider-range must be a network such as"],
    ["a pull that nobody would wait for", [...GOOD, "--pull-timeout", "900"], "--pull-timeout must be at most 800."],
    ["a deadline that is none", [...GOOD, "--registry-timeout", "soon"], "--registry-timeout must be a number."],
    ["a disk promised less than once", [...GOOD, "--disk-overcommit", "0.5"], "--disk-overcommit must be 1 or more."],
    ["no start at all", [...GOOD, "--parallel-starts", "0"], "--parallel-starts must be above 0."],
  ])("refuses %s with one sentence", (_, args, sentence) => {
    expect(() => readConfig(args, {})).toThrow(sentence)
  })
})
