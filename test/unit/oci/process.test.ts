import { expect, test } from "vitest"
import { processArgs, processEnv, processWorkdir } from "../../../node-bridge/oci/process.ts"
import type { ImageConfig } from "../../../node-bridge/runtime/ports.ts"

const IMAGE: ImageConfig = {
  entrypoint: ["/entry"], cmd: ["serve"], env: ["PATH=/opt/bin", "A=image", "EMPTY=", "no-equals", "=x"], workdir: "/srv", user: "", stopSignal: "",
} // prettier-ignore

test.each([
  ["the image's own", {}, ["/entry", "serve"]],
  ["args replace CMD", { args: ["test"] }, ["/entry", "test"]],
  ["no args at all", { args: [] }, ["/entry"]],
  ["command replaces the entrypoint and drops CMD", { command: ["sh"] }, ["sh"]],
  ["both", { command: ["sh", "-c"], args: ["true"] }, ["sh", "-c", "true"]],
])("arguments: %s", (_what, spec, args) => {
  expect(processArgs(spec, IMAGE)).toEqual({ ok: true, value: args })
})

test.each([[{ command: [] }], [{ command: [""] }]])("no command is said to be missing", (spec) => {
  expect(processArgs(spec, { ...IMAGE, entrypoint: [], cmd: [] })).toMatchObject({ ok: false, error: { code: "no_command" } })
})

test("environment: the tenant wins over the image, the image over our defaults", () => {
  const env = processEnv({ env: { A: "mine", B: "x=y" }, hostname: "h", tty: true }, IMAGE, "/root")
  expect(env).toEqual(["PATH=/opt/bin", "HOSTNAME=h", "HOME=/root", "TERM=xterm", "A=mine", "EMPTY=", "B=x=y"])
})

test.each([
  [undefined, "/srv"],
  ["/", "/"],
  ["/a/./b//c/", "/a/b/c"],
  ["/../../etc", "/etc"],
  ["/a/../../..", "/"],
])("working directory %s is %s", (workdir, expected) => {
  expect(processWorkdir({ workdir }, IMAGE)).toBe(expected)
})
