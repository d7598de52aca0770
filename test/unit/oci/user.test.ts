import { expect, test } from "vitest"
import { resolveUser } from "../../../node-bridge/oci/user.ts"

const PASSWD =
  "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001::/home/web:/bin/sh\n# a comment\nbroken:x:nine:9::/:\nbig:x:70000:1::/:\n"
const GROUP = "root:x:0:\nstaff:x:50:web,other\nweb:x:1001:\nextra:x:2000:web\n"

test.each([
  ["nothing is root with its own home", "", { uid: 0, gid: 0, additionalGids: [], home: "/root" }],
  [
    "a name brings its group, its other groups and its home",
    "web",
    { uid: 1000, gid: 1001, additionalGids: [50, 2000], home: "/home/web" },
  ],
  ["a known number is the same user", "1000", { uid: 1000, gid: 1001, additionalGids: [50, 2000], home: "/home/web" }],
  ["an unknown number is taken as it is", "4711", { uid: 4711, gid: 0, additionalGids: [], home: "/" }],
  ["a named group replaces all others", "web:staff", { uid: 1000, gid: 50, additionalGids: [], home: "/home/web" }],
  ["a numbered group need not exist", "web:77", { uid: 1000, gid: 77, additionalGids: [], home: "/home/web" }],
])("%s", (_what, asked, user) => {
  expect(resolveUser(asked, PASSWD, GROUP)).toEqual({ ok: true, value: user })
})

test.each([
  ["an unknown name", "nobody", "user_not_found"],
  ["an unknown group", "web:nobody", "user_not_found"],
  ["a line that is no passwd line", "broken", "user_not_found"],
  ["an id beyond the tenant's range", "65536", "user_out_of_range"],
  ["a named user beyond the range", "big", "user_out_of_range"],
  ["a group beyond the range", "0:65536", "user_out_of_range"],
])("%s is refused", (_what, asked, code) => {
  expect(resolveUser(asked, PASSWD, GROUP)).toMatchObject({ ok: false, error: { code } })
})

test("without files a number will do and a name will not", () => {
  expect(resolveUser("", "", "")).toEqual({ ok: true, value: { uid: 0, gid: 0, additionalGids: [], home: "/" } })
  expect(resolveUser("web", "", "").ok).toBe(false)
})
