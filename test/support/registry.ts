/** Debian's docker-registry on a loopback port with a storage folder of its own; stopped and removed by `stop`. */
import { execFile, execFileSync, spawn } from "node:child_process"
import { mkdirSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { join } from "node:path"
import { promisify } from "node:util"
import { temporaryFolder } from "./images.ts"
import { waitFor } from "./wait-for.ts"

export interface Registry {
  /** `127.0.0.1:PORT`. */
  readonly host: string
  /** Where blobs lie, for tests that damage them. */
  readonly storage: string
  /** Pushes an image of a layout; answers nothing: the digest is the layout's. */
  push(layout: string, tag: string, name: string, ...options: string[]): Promise<void>
  stop(): Promise<void>
}

export interface RegistryOptions {
  /** Asks for this name and password on every call. */
  readonly login?: { readonly name: string; readonly password: string }
}

const call = promisify(execFile)

export async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  if (address === null || typeof address === "string") throw new Error("no port")
  return address.port
}

export async function startRegistry(options: RegistryOptions = {}): Promise<Registry> {
  const dir = temporaryFolder("registry")
  const storage = join(dir, "storage")
  mkdirSync(storage)
  const host = `127.0.0.1:${await freePort()}`
  const { login } = options
  if (login !== undefined) {
    const script = "import crypt, sys; print(crypt.crypt(sys.argv[1], crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16)))"
    const hash = execFileSync("python3", ["-W", "ignore", "-c", script, login.password], { encoding: "utf8" }).trim()
    writeFileSync(join(dir, "htpasswd"), `${login.name}:${hash}\n`)
  }
  const config = {
    version: 0.1,
    log: { level: "error" },
    storage: { filesystem: { rootdirectory: storage } },
    http: { addr: host },
    ...(login === undefined ? {} : { auth: { htpasswd: { realm: "test", path: join(dir, "htpasswd") } } }),
  }
  const file = join(dir, "config.yml") // JSON is YAML
  writeFileSync(file, JSON.stringify(config))
  const child = spawn("docker-registry", ["serve", file], { stdio: "ignore" })
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()))
  await waitFor("the registry", async () => {
    const answer = await fetch(`http://${host}/v2/`).catch(() => null)
    return answer !== null && (answer.status === 200 || answer.status === 401)
  })
  const credentials = login === undefined ? [] : ["--dest-creds", `${login.name}:${login.password}`]
  return {
    host,
    storage,
    push: async (layout, tag, name, ...more) => {
      const to = `docker://${host}/${name}`
      await call("skopeo", ["copy", "--quiet", "--dest-tls-verify=false", ...credentials, ...more, `oci:${layout}:${tag}`, to])
    },
    stop: async () => {
      child.kill("SIGKILL")
      await exited
      rmSync(dir, { recursive: true, force: true })
    },
  }
}
