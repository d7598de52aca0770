import { describe, expect, it } from "vitest"
import { knownVulnerabilities } from "../../schema/vulnerabilities.ts"

const idsOf = (versions: Record<string, string>) => knownVulnerabilities(versions).map(({ id }) => id)

describe("a version", () => {
  it.each([
    ["runc", "1.0.0-rc6", "CVE-2019-5736", true],
    ["runc", "1.0.0-rc93", "CVE-2019-5736", false],
    ["runc", "1.0.0", "CVE-2019-5736", false],
    ["runc", "1.1.11", "CVE-2024-21626", true],
    ["runc", "1.1.5+ds1", "CVE-2024-21626", true],
    ["runc", "1.1.12", "CVE-2024-21626", false],
    ["runc", "1.2.0-rc.2", "CVE-2024-45310", true],
    ["runc", "1.2.0", "CVE-2024-45310", false],
    ["runc", "1.2.7", "CVE-2025-31133", true],
    ["runc", "1.2.8", "CVE-2025-52565", false],
    ["runc", "1.3.2", "CVE-2025-52881", true],
    ["runc", "1.3.3", "CVE-2025-52881", false],
    ["runc", "1.1.15", "CVE-2025-52881", true],
    ["runc", "1.4.0", "CVE-2025-52881", false],
    ["runc", "1.2.9", "CVE-2026-41579", true],
    ["runc", "1.3.6", "CVE-2026-41579", false],
    ["crun", "1.4.3", "CVE-2022-27650", true],
    ["crun", "1.4.4", "CVE-2022-27650", false],
    ["crun", "1.8.1", "CVE-2022-27650", false],
    ["crun", "1.8.1", "CVE-2026-30892", false],
    ["crun", "1.19", "CVE-2026-30892", true],
    ["crun", "1.27", "CVE-2026-30892", false],
    ["crun", "1.8.1", "CVE-2026-47766", true],
    ["crun", "1.28", "CVE-2026-47766", false],
    ["runsc", "0.0~20221219.0", "CVE-2025-2713", true],
    ["runsc", "release-20250319.0", "CVE-2025-2713", false],
    ["conmon", "2.1.1", "CVE-2022-1708", true],
    ["conmon", "2.1.6", "CVE-2022-1708", false],
    ["kernel", "5.7.19", "CVE-2022-0847", false],
    ["kernel", "5.10.101", "CVE-2022-0847", true],
    ["kernel", "5.10.102", "CVE-2022-0847", false],
    ["kernel", "5.12.4", "CVE-2022-0847", true],
    ["kernel", "5.17.0-rc1", "CVE-2022-0847", false],
    ["kernel", "6.1.75-cloud-amd64", "CVE-2024-1086", true],
    ["kernel", "6.18.44-fc-v669", "CVE-2024-1086", false],
  ])("of %s %s: %s is %j", (component, version, id, has) => {
    expect(idsOf({ [component]: version }).includes(id)).toBe(has)
  })

  it("of Debian's kernel is read from the line about its build, where the stable version is", () => {
    const release = "6.1.0-40-amd64"
    expect(idsOf({ kernel: release })).toContain("CVE-2024-1086")
    const kernel_build = "#1 SMP PREEMPT_DYNAMIC Debian 6.1.153-1 (2025-09-20)"
    expect(idsOf({ kernel: release, kernel_build })).toEqual([])
  })

  it.each([
    ["debian:12 1.1.5+ds1-1+deb12u1", false],
    ["debian:12 1.1.5+ds1-1+deb12u2", false],
    ["debian:12 1.1.5+ds1-1", true],
    ["debian:13 1.1.5+ds1-1+deb12u1", true],
    ["ubuntu:22.04 1.1.5+ds1-1+deb12u1", true],
  ])("of a package that its distribution may have mended, %s, has CVE-2024-21626: %j", (runc_package, has) => {
    const ids = idsOf({ runc: "1.1.5+ds1", runc_package })
    expect(ids.includes("CVE-2024-21626")).toBe(has)
    expect(ids).toContain("CVE-2025-31133") // which Debian 12 has not mended
  })

  it("that says nothing, or of something else, has none", () => {
    expect(knownVulnerabilities({ runc: "unknown", node: "0.1.0", kernel: "" })).toEqual([])
  })

  it("comes with the next version that has the fix", () => {
    const known = knownVulnerabilities({ runc: "1.3.1" })
    expect(known.find(({ id }) => id === "CVE-2025-31133")).toMatchObject({
      component: "runc",
      version: "1.3.1",
      fixed_in: "1.3.3",
    })
  })
})
