import { expect, it } from "vitest"
import { ANYONE, Access, repositoryOf } from "../../../node-bridge/image/access.ts"
import type { Asker } from "../../../node-bridge/image/access.ts"
import { parseReference } from "../../../node-bridge/image/reference.ts"
import { formatId } from "../../../schema/ids.ts"

const tenant = (at: number) => formatId("ten", at, new Uint8Array(10))
const [anna, ben] = [tenant(1), tenant(2)]

function given(...grants: readonly (readonly [string, Asker])[]): Access {
  const access = new Access()
  for (const [repository, asker] of grants) access.add(repository, asker)
  return access
}

it("what a repository gives to anybody, any tenant may have from there", () => {
  expect(given(["docker.io/library/redis", ANYONE]).needs("docker.io/library/redis", anna)).toBe("nothing")
})

it("what is open somewhere needs only the word of another repository that is named for it", () => {
  expect(given(["docker.io/library/redis", ANYONE]).needs("quay.io/x/redis", anna)).toBe("word")
})

it("what was opened by credentials is their tenant's; to another the same repository must say so", () => {
  const access = given(["private.example/app", anna])
  expect(access.needs("private.example/app", anna)).toBe("nothing")
  expect(access.needs("private.example/app", ben)).toBe("word")
})

it("what was only ever opened by credentials must come whole from any other repository, to its own tenant too", () => {
  const access = given(["private.example/app", anna])
  for (const who of [anna, ben]) expect(access.needs("private.example/app2", who)).toBe("whole")
  expect(given().needs("private.example/app", anna)).toBe("whole")
})

it("is the same after it was kept, whatever a crash cut short", () => {
  const lines = [
    given().add("docker.io/library/redis", ANYONE),
    given().add("private.example/app", anna),
    `private.example/app ${ben}`.slice(0, -3),
    "private.example/ap",
    "",
  ]
  const access = Access.parse(lines.join("\n"))
  expect(access.needs("docker.io/library/redis", ben)).toBe("nothing")
  expect(access.needs("private.example/app", anna)).toBe("nothing")
  expect(access.needs("private.example/app", ben)).toBe("word")
})

it("keeps a grant once, and no more than so many", () => {
  const access = new Access()
  expect(access.add("a.example/a", ANYONE)).toBe("a.example/a anyone")
  expect(access.add("a.example/a", ANYONE)).toBeNull()
  for (let at = 0; at < 10_000; at++) access.add(`a.example/${at}`, ANYONE)
  expect(access.add("a.example/one-more", ANYONE)).toBeNull()
  expect(access.needs("a.example/one-more", anna)).toBe("word")
})

it.each([
  ["redis", "docker.io/library/redis"],
  ["docker.io/redis:7", "docker.io/library/redis"],
  ["quay.io/team/app@sha256:" + "1".repeat(64), "quay.io/team/app"],
  ["localhost/hello:latest", "localhost/hello"],
  ["127.0.0.1:5000/app:1", "127.0.0.1:5000/app"],
])("%s is of the repository %s", (text, repository) => {
  const reference = parseReference(text)
  expect(reference && repositoryOf(reference)).toBe(repository)
})
