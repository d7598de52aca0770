import { describe, expect, it } from "vitest"
import { DocumentError, byTag, parseConfig, parseIndex, parseManifest, platformsOf } from "../../../node-bridge/image/manifest.ts"

const DIGEST = `sha256:${"a".repeat(64)}`
const aDescriptor = (more: object = {}) => ({
  mediaType: "application/vnd.oci.image.manifest.v1+json",
  digest: DIGEST,
  size: 1,
  ...more,
})
const aConfig = (config: object | null) => JSON.stringify({ os: "linux", architecture: "amd64", config })

describe("the documents of an image", () => {
  it("give the config with what is absent made empty", () => {
    expect(parseConfig(aConfig(null))).toEqual({
      platform: "linux/amd64",
      config: { entrypoint: [], cmd: [], env: [], workdir: "", user: "", stopSignal: "" },
    })
    expect(parseConfig(aConfig({ Cmd: ["sh"], Env: null, User: "65534:65534", StopSignal: "SIGQUIT" })).config).toMatchObject({
      cmd: ["sh"],
      env: [],
      user: "65534:65534",
      stopSignal: "SIGQUIT",
    })
  })

  it.each([
    ["no JSON", "{"],
    ["no platform", "{}"],
    ["a command that is a string", aConfig({ Cmd: "sh" })],
    ["a NUL", aConfig({ Env: ["A=\0"] })],
    ["more text than a process can have", aConfig({ Env: ["x".repeat(300_000)] })],
  ])("are refused with %s in the config", (_what, json) => {
    expect(() => parseConfig(json)).toThrow(DocumentError)
  })

  it("have layers by digest only, and not too many of them", () => {
    const manifest = (layers: object[]) => JSON.stringify({ config: aDescriptor(), layers })
    expect(parseManifest(manifest([aDescriptor()])).layers).toHaveLength(1)
    expect(() => parseManifest(manifest([aDescriptor({ digest: "sha256:../../x" })]))).toThrow(DocumentError)
    expect(() => parseManifest(manifest(Array.from({ length: 129 }, () => aDescriptor())))).toThrow(DocumentError)
  })

  it("tell the platforms of an index, and that a single image has none to choose from", () => {
    const platform = { os: "linux", architecture: "arm64" }
    expect(platformsOf(JSON.stringify({ manifests: [aDescriptor({ platform }), aDescriptor()] }))).toEqual([
      "linux/arm64",
      "unknown",
    ])
    expect(platformsOf(JSON.stringify({ config: aDescriptor(), layers: [] }))).toBeNull()
    expect(platformsOf("garbage")).toBeNull()
  })

  it("are found by tag, and a lone one without a tag is the latest", () => {
    const tagged = parseIndex(
      JSON.stringify({ manifests: [aDescriptor({ annotations: { "org.opencontainers.image.ref.name": "1" } })] }),
    )
    const untagged = parseIndex(JSON.stringify({ manifests: [aDescriptor()] }))
    expect(byTag(tagged, "1")?.digest).toBe(DIGEST)
    expect(byTag(tagged, "latest")).toBeUndefined()
    expect(byTag(untagged, "latest")?.digest).toBe(DIGEST)
    expect(byTag(untagged, "1")).toBeUndefined()
  })
})
