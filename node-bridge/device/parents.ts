/**
 * Which device another is a part of: a slice of an NVIDIA GPU (MIG) excludes the whole, and the whole its slices. CDI says
 * nothing of it, so it is derived, the first that applies:
 *
 *  1. The annotation `berth.parent` of the device: a name in the same kind, or a whole one such as `nvidia.com/gpu=0`.
 *  2. The names that `nvidia-ctk cdi generate` gives: `0:1` is slice 1 of `0`, `mig0:1` of `gpu0`.
 *  3. Of vendor `nvidia.com`, a device with a node below `/dev/nvidia-caps` is a slice of the device that has the same
 *     `/dev/nvidiaN` and no such node. This finds the parent of a slice that is named by its serial number.
 *
 * Slices of a kind of their own (`nvidia.com/mig-1g.10gb`) are parts of a device of `nvidia.com/gpu`. Pure.
 */
import type { ContainerEdits } from "./cdi-schema.ts"

export const PARENT_ANNOTATION = "berth.parent"
const WHOLE_KIND = "nvidia.com/gpu"
const CAPABILITY_NODES = "/dev/nvidia-caps/"

interface Named {
  /** `vendor/class=name`. */
  readonly name: string
  readonly device: { readonly annotations: Readonly<Record<string, string>>; readonly containerEdits: ContainerEdits }
}

export function parentOf({ name, device }: Named, all: readonly Named[]): string | null {
  const { annotations, containerEdits } = device
  const [kind, own] = split(name)
  const said = annotations[PARENT_ANNOTATION]
  if (said !== undefined) return said.includes("=") ? said : `${kind}=${said}`
  if (!kind.startsWith("nvidia.com/")) return null
  const numbered = /^(mig)?(\d+):\d+$/.exec(own)
  if (numbered) return `${WHOLE_KIND}=${numbered[1] === undefined ? "" : "gpu"}${numbered[2]}`
  if (!isSlice(containerEdits)) return null
  const gpu = gpuNode(containerEdits)
  const whole = all.find((other) => {
    const edits = other.device.containerEdits
    return split(other.name)[0] === WHOLE_KIND && !isSlice(edits) && gpu !== undefined && gpuNode(edits) === gpu
  })
  return whole?.name ?? null
}

const split = (name: string): readonly [string, string] => {
  const at = name.indexOf("=")
  return [name.slice(0, at), name.slice(at + 1)]
}

const paths = ({ deviceNodes }: ContainerEdits) => deviceNodes.map(({ path }) => path)
const isSlice = (edits: ContainerEdits) => paths(edits).some((path) => path.startsWith(CAPABILITY_NODES))
const gpuNode = (edits: ContainerEdits) => paths(edits).find((path) => /^\/dev\/nvidia\d+$/.test(path))
