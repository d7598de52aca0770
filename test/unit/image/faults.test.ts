import { describe, expect, it } from "vitest"
import { faultOf } from "../../../node-bridge/image/faults.ts"

/** What skopeo 1.9.3 and umoci 0.4.7 wrote when these things happened to them. */
const SAID: readonly (readonly [code: string, retryable: boolean, output: string])[] = [
  ["disk_full", true, 'time="…" level=fatal msg="writing blob: write /var/lib/x/blobs/oci-put-blob1: no space left on device"'],
  [
    "registry_timeout",
    false,
    'msg="pinging container registry 127.0.0.1:1: Get \\"http://127.0.0.1:1/v2/\\": context deadline exceeded"',
  ],
  ["registry_timeout", true, 'msg="pinging container registry x: dial tcp 10.0.0.1:443: i/o timeout"'],
  ["image_not_found", false, 'msg="reading manifest 9 in 127.0.0.1:5000/app: manifest unknown: manifest unknown"'],
  ["image_unauthorized", false, 'msg="reading manifest 1 in ghcr.example/app: denied: not for you"'],
  ["image_unauthorized", false, 'msg="reading manifest 1 in 127.0.0.1:5000/app: unauthorized: authentication required"'],
  [
    "image_unauthorized",
    false,
    'msg="reading manifest latest in docker.io/library/x: errors:\\ndenied: requested access to the resource is denied"',
  ],
  ["image_corrupt", false, 'msg="writing blob: Digest did not match, expected sha256:1, got sha256:2"'],
  ["image_corrupt", false, "create runtime bundle: unpack layer: archive/tar: invalid tar header"],
  [
    "image_wrong_architecture",
    false,
    'msg="choosing image instance: no image found in manifest list for architecture amd64, variant \\"\\", OS linux"',
  ],
  [
    "registry_unreachable",
    true,
    'msg="pinging container registry 127.0.0.1:1: dial tcp 127.0.0.1:1: connect: connection refused"',
  ],
  ["registry_unreachable", true, 'msg="pinging container registry x: http: server gave HTTP response to HTTPS client"'],
  ["registry_unreachable", true, 'msg="reading manifest: toomanyrequests: You have reached your pull rate limit."'],
  ["image_failed", true, "something that nobody has seen before"],
]

describe("what a tool said", () => {
  it.each(SAID)("means %s", (code, retryable, output) => {
    const fault = faultOf("skopeo", output)
    expect(fault.reason.code).toBe(code)
    expect(fault.retryable).toBe(retryable)
  })

  it("is never shown, for it names paths of the host", () => {
    for (const [, , output] of SAID) expect(faultOf("skopeo", `${output} /var/lib/berth/secret`).message).not.toContain("/")
  })
})
