import { describe, expect, it } from "vitest"
import { atDigest, atTag, parseReference } from "../../../node-bridge/image/reference.ts"

const DIGEST = `sha256:${"a".repeat(64)}`

describe("an image reference", () => {
  it.each([
    ["alpine", "docker.io", "library/alpine", "latest"],
    ["alpine:3.20", "docker.io", "library/alpine", "3.20"],
    ["team/app", "docker.io", "team/app", "latest"],
    ["docker.io/nginx", "docker.io", "library/nginx", "latest"],
    ["registry.example/app:1", "registry.example", "app", "1"],
    ["registry.example:5000/a/b/c", "registry.example:5000", "a/b/c", "latest"],
    ["localhost:5000/app", "localhost:5000", "app", "latest"],
    ["[::1]:5000/app:x", "[::1]:5000", "app", "x"],
    ["Registry/app", "Registry", "app", "latest"],
  ])("%s is on %s", (text, registry, repository, tag) => {
    expect(parseReference(text)).toMatchObject({ kind: "registry", registry, repository, tag })
  })

  it("without a port on localhost is an image of the node, never the network", () => {
    expect(parseReference("localhost/tools/hello:2")).toEqual({ kind: "local", name: "tools/hello", tag: "2", digest: null })
  })

  it("cannot leave the folder of the node's images", () => {
    for (const text of [
      "localhost/..",
      "localhost/../etc",
      "localhost/a/../b",
      "localhost/.hidden",
      "localhost//a",
      "localhost/",
    ])
      expect(parseReference(text)).toBeNull()
  })

  it("is never an option of a tool, nor carries white space", () => {
    for (const text of ["-v", "--help", "a b", "a\nb", "", "a:", "a@sha256:12", "docker://a", "A"])
      expect(parseReference(text)).toBeNull()
  })

  it("keeps its digest beside the tag, and names the digest alone to the registry", () => {
    const reference = parseReference(`registry.example/app:1@${DIGEST}`)
    expect(reference).toMatchObject({ tag: "1", digest: DIGEST })
    if (reference?.kind !== "registry") throw new Error("not a registry's")
    expect(atDigest(reference, DIGEST)).toBe(`docker://registry.example/app@${DIGEST}`)
    expect(atTag(reference)).toBe("docker://registry.example/app:1")
  })

  it.each([
    ["localhost:5000/a", true],
    ["127.0.0.1:5000/a", true],
    ["127.9.9.9/a", true],
    ["[::1]:5000/a", true],
    ["127.0.0.1.example.com:5000/a", false],
    ["localhost.example:5000/a", false],
    ["10.0.0.1:5000/a", false],
    ["registry.example/a", false],
    ["alpine", false],
  ])("%s may be asked without TLS: %s", (text, plainHttp) => {
    expect(parseReference(text)).toMatchObject({ plainHttp })
  })
})
