/**
 * A tenant's credentials on their way to skopeo: by a file that is only in memory and only has a descriptor, so that they are
 * in no argument, no environment and no folder, and a bridge that dies leaves none behind.
 */
import { closeSync, fchmodSync, writeFileSync } from "node:fs"
import { memoryFile } from "../native/libc.ts"
import type { HeldPath, RegistryCredentials } from "../runtime/ports.ts"

const basic = ({ username, password }: RegistryCredentials) => Buffer.from(`${username}:${password}`).toString("base64")

/** Credentials for one registry alone, in the format of containers-auth.json(5). Good until released. */
export function authFile(registry: string, credentials: RegistryCredentials): HeldPath {
  const fd = memoryFile("registry-credentials")
  let held = true
  const release = () => {
    if (held) closeSync(fd)
    held = false
  }
  try {
    fchmodSync(fd, 0o600)
    writeFileSync(fd, JSON.stringify({ auths: { [registry]: { auth: basic(credentials) } } }))
  } catch (error) {
    release()
    throw error
  }
  return { path: `/proc/${process.pid}/fd/${fd}`, release }
}

/** Without the password: skopeo repeats what a registry answers, and a registry may answer with what it was sent. */
export function withoutSecrets(text: string, credentials: RegistryCredentials): string {
  const secrets = [basic(credentials), credentials.password].filter((secret) => secret !== "")
  return secrets.reduce((left, secret) => left.replaceAll(secret, "[credentials]"), text)
}
