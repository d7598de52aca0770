import { describe, expect, it } from "vitest"
import { parseRanges, refusedDestination } from "../../../../durable/tenant/webhooks/destination.ts"

const refused = (url: string, allowed: string[] = []) => refusedDestination(url, allowed)

describe("where a webhook may lead", () => {
  it.each([
    "https://hooks.example.com/berth",
    "https://hooks.example.com:8443/a?b=c",
    "https://93.184.215.14/",
    "https://[2606:2800:21f:cb07:6820:80da:af6b:8b2c]/",
    "https://xn--bcher-kva.example/",
  ])("may be public: %s", (url) => {
    expect(refused(url)).toBeUndefined()
  })

  it.each([
    ["loopback", "https://127.0.0.1/"],
    ["loopback by another number", "https://127.9.9.9/"],
    ["loopback in decimal", "https://2130706433/"],
    ["loopback in hexadecimal", "https://0x7f000001/"],
    ["loopback in octal", "https://0177.0.0.1/"],
    ["loopback, short", "https://127.1/"],
    ["loopback, percent-encoded", "https://%31%32%37.0.0.1/"],
    ["loopback in full-width digits", "https://１２７.0.0.1/"],
    ["this host", "https://0.0.0.0/"],
    ["private", "https://10.1.2.3/"],
    ["private", "https://172.16.0.1/"],
    ["private", "https://192.168.1.1/"],
    ["shared address space", "https://100.64.0.1/"],
    ["metadata", "https://169.254.169.254/latest/meta-data/"],
    ["broadcast", "https://255.255.255.255/"],
    ["multicast", "https://224.0.0.1/"],
    ["reserved", "https://240.0.0.1/"],
    ["IPv6 loopback", "https://[::1]/"],
    ["IPv6 unspecified", "https://[::]/"],
    ["mapped loopback", "https://[::ffff:127.0.0.1]/"],
    ["mapped loopback in hexadecimal", "https://[::ffff:7f00:1]/"],
    ["mapped metadata", "https://[::ffff:169.254.169.254]/"],
    ["compatible loopback", "https://[::127.0.0.1]/"],
    ["unique local", "https://[fd00:ec2::254]/"],
    ["link-local", "https://[fe80::1]/"],
    ["NAT64 of metadata", "https://[64:ff9b::a9fe:a9fe]/"],
    ["6to4 of loopback", "https://[2002:7f00:1::]/"],
    ["Teredo", "https://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/"],
    ["localhost", "https://localhost/"],
    ["localhost with a root dot", "https://localhost./"],
    ["a name under localhost", "https://a.localhost/"],
    ["a cloud's metadata by name", "https://metadata.google.internal/"],
    ["a name of the local link", "https://printer.local/"],
    ["a single label", "https://intranet/"],
  ])("may not be %s: %s", (_, url) => {
    expect(refused(url)).toMatch(/is not a public (address|name)$/)
  })

  it("must be https", () => {
    expect(refused("http://hooks.example.com/")).toBe("must be https")
  })

  it("holds no credentials, which every log on the way would show", () => {
    expect(refused("https://user:pass@hooks.example.com/")).toBe("must not hold a user name or a password")
  })

  it("may be an address that the operator allows, without https too", () => {
    expect(refused("http://127.0.0.1:9000/", ["127.0.0.1/32"])).toBeUndefined()
    expect(refused("http://localhost:9000/", ["127.0.0.1/32"])).toBeUndefined()
    expect(refused("http://[::ffff:127.0.0.1]:9000/", ["127.0.0.1/32"])).toBeUndefined()
    expect(refused("http://127.0.0.2:9000/", ["127.0.0.1/32"])).toContain("127.0.0.2")
    expect(refused("http://[::1]:9000/", ["127.0.0.1/32"])).toContain("::1")
  })
})

describe("an operator's list of ranges", () => {
  it("is read with commas or spaces", () => {
    expect(parseRanges("127.0.0.1/32, 10.0.0.0/8 fd00::/8")).toEqual(["127.0.0.1/32", "10.0.0.0/8", "fd00::/8"])
    expect(parseRanges("")).toEqual([])
  })

  it("names what is no range", () => {
    expect(() => parseRanges("127.0.0.1")).toThrow("127.0.0.1 is not an address range")
  })
})
