import { globSync, readFileSync } from "node:fs"
import { dirname, join, normalize } from "node:path"
import { describe, expect, it } from "vitest"

const ROOT = join(import.meta.dirname, "../..")
const FOLDERS = ["schema", "durable", "worker", "node-bridge", "bin"] as const
type Folder = (typeof FOLDERS)[number] | "test"

interface Import {
  readonly file: string
  readonly target: string
  readonly typeOnly: boolean
}

const STATEMENT = /^(?:import|export)\s+(type\s)?[^"';]*?from\s+"([^"]+)"|^import\s+"([^"]+)"|import\("([^"]+)"\)/gms

const imports: Import[] = FOLDERS.flatMap((folder) => globSync(`${folder}/**/*.ts`, { cwd: ROOT }))
  .filter((file) => !file.includes("migrations/"))
  .flatMap((file) =>
    [...readFileSync(join(ROOT, file), "utf8").matchAll(STATEMENT)].map((match) => {
      const specifier = match[2] ?? match[3] ?? match[4] ?? ""
      return {
        file,
        target: specifier.startsWith(".") ? normalize(join(dirname(file), specifier)) : specifier,
        typeOnly: match[1] !== undefined,
      }
    }),
  )

const folderOf = (path: string) => path.split("/")[0] as Folder
const offending = (wrong: (edge: Import) => boolean) => imports.filter(wrong).map(({ file, target }) => `${file} → ${target}`)

const ofSchema = (file: string) => (file.includes("tables/") ? /^(zod|schema\/|drizzle)/ : /^(zod$|schema\/(?!tables))/)

describe("the direction of imports", () => {
  it("is read from real files", () => {
    expect(new Set(imports.map(({ file }) => folderOf(file)))).toEqual(new Set(FOLDERS))
    expect(imports.length).toBeGreaterThan(100)
  })

  it("never leads to tests", () => {
    expect(offending(({ file, target }) => folderOf(file) !== "bin" && folderOf(target) === "test")).toEqual([])
  })

  it("lets schema know zod and itself only, and its tables drizzle too", () => {
    expect(offending(({ file, target }) => folderOf(file) === "schema" && !ofSchema(file).test(target))).toEqual([])
  })

  it("keeps durable and node-bridge apart, each with schema alone", () => {
    expect(offending(({ file, target }) => folderOf(file) === "durable" && /^(worker|node-bridge|bin)\//.test(target))).toEqual(
      [],
    )
    expect(
      offending(({ file, target }) => folderOf(file) === "node-bridge" && /^(worker|durable|bin|schema\/tables)\b/.test(target)),
    ).toEqual([])
  })

  it("lets the worker know the objects by type, save the classes that its entry exports again", () => {
    const known = ["worker/index.ts", "worker/env.ts"]
    expect(
      offending(
        ({ file, target, typeOnly }) =>
          folderOf(file) === "worker" && folderOf(target) === "durable" && !typeOnly && !known.includes(file),
      ),
    ).toEqual([])
  })

  it("has one speaker to the directory's database, and one to each object's", () => {
    const directory = /^worker\/directory(-\w+)?\.ts$/
    expect(
      offending(
        ({ file, target, typeOnly }) =>
          folderOf(file) === "worker" && /^drizzle|schema\/tables/.test(target) && !typeOnly && !directory.test(file),
      ),
    ).toEqual([])
    const speakers = /^durable\/((\w+\/)+(store|.*-store)|shared\/database)\.ts$/
    expect(
      offending(
        ({ file, target, typeOnly }) =>
          folderOf(file) === "durable" && /^drizzle|schema\/tables/.test(target) && !typeOnly && !speakers.test(file),
      ),
    ).toEqual([])
  })

  it("has one spawner of processes on the host", () => {
    expect(
      offending(
        ({ file, target }) =>
          folderOf(file) === "node-bridge" && target.endsWith("child_process") && file !== "node-bridge/runtime/exec.ts",
      ),
    ).toEqual([])
  })
})
