/** What a run's devices add to its `config.json`. Pure: all that needs a look at the host was looked up before. */
import type { Grant, GrantedNode } from "../device/grant.ts"
import type { OciDeviceRule, OciMount } from "./spec-types.ts"

/** A node of our own for each that was granted, by its place in the grant: see mount/device-nodes.ts. */
export const nodeSource = (directory: string, index: number) => `${directory}/${index}`

/** Each node is bound from `directory`, where the create step makes it. */
export function deviceMounts({ nodes, mounts }: Grant, directory: string): OciMount[] {
  return [
    ...nodes.map(({ path }, index) => ({
      destination: path,
      type: "bind",
      source: nodeSource(directory, index),
      options: ["bind", "nosuid", "noexec"],
    })),
    ...mounts.map(({ source, path, writable, executable }) => ({
      destination: path,
      type: "bind",
      source,
      options: ["rbind", "rprivate", "nosuid", "nodev", writable ? "rw" : "ro", ...(executable ? [] : ["noexec"])],
    })),
  ]
}

export function deviceRules({ nodes }: Pick<Grant, "nodes">): OciDeviceRule[] {
  const usable = nodes.filter(({ access }) => access !== "")
  return usable.map(({ type, major, minor, access }: GrantedNode) => ({ allow: true, type, major, minor, access }))
}

/** A device's own variables outweigh the tenant's and the image's: they say what was really given. */
export function withDeviceEnv(env: readonly string[], grant: Pick<Grant, "env"> | null): readonly string[] {
  const own = grant?.env ?? []
  const names = new Set(own.map(nameOf))
  return [...env.filter((text) => !names.has(nameOf(text))), ...own]
}

const nameOf = (text: string) => text.slice(0, text.indexOf("="))
