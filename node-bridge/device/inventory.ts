/**
 * The devices of a host, from the files that describe them. Pure. A file that is broken, or a device that this node cannot
 * hand out, is said and takes nothing else with it. Of two files that describe the same device the one in the later
 * directory counts; of two in one directory neither, as CDI has it.
 */
import { parse as parseYaml } from "yaml"
import { CdiSpec, requiredVersion } from "./cdi-schema.ts"
import type { ContainerEdits } from "./cdi-schema.ts"
import { parentOf } from "./parents.ts"
import { planOf } from "./plan.ts"
import type { DevicePlan } from "./plan.ts"

/** Past so many the rest is not offered: a node's facts must stay a message. */
const MAX_DEVICES = 1024

export interface SpecFile {
  readonly path: string
  /** Its directory's place in the order of directories; the later wins. */
  readonly priority: number
  readonly text: string
}

export interface DescribedDevice {
  /** `vendor/class=name`. */
  readonly name: string
  readonly parent: string | null
  /** What a container gets; or why this node gives it to none. */
  readonly plan: DevicePlan | { readonly refused: string }
}

export interface Inventory {
  readonly devices: ReadonlyMap<string, DescribedDevice>
  /** A sentence for each thing that is wrong, for the operator. */
  readonly problems: readonly string[]
}

interface Candidate {
  readonly name: string
  readonly path: string
  readonly priority: number
  readonly spec: CdiSpec
  readonly device: CdiSpec["devices"][number]
}

export function inventoryOf(files: readonly SpecFile[], allowedHooks: ReadonlySet<string>): Inventory {
  const problems: string[] = []
  const candidates = files.flatMap((file) => candidatesOf(file, problems))
  const chosen = withoutAliases(unambiguous(candidates, problems), problems)
  const devices = new Map<string, DescribedDevice>()
  for (const { name, spec, device } of chosen.slice(0, MAX_DEVICES)) {
    const plan = planOf([spec.containerEdits, device.containerEdits], allowedHooks)
    if ("refused" in plan) problems.push(`${name} is not offered: ${plan.refused}`)
    devices.set(name, { name, parent: parentOf({ name, device }, chosen), plan })
  }
  if (chosen.length > MAX_DEVICES) problems.push(`only ${MAX_DEVICES} of ${chosen.length} devices are offered`)
  return { devices, problems }
}

function candidatesOf({ path, priority, text }: SpecFile, problems: string[]): Candidate[] {
  try {
    const parsed = CdiSpec.safeParse(path.endsWith(".json") ? JSON.parse(text) : parseYaml(text, { maxAliasCount: 0 }))
    if (!parsed.success) {
      const issue = parsed.error.issues[0]
      throw new Error(issue === undefined ? "it cannot be read" : `${issue.path.join(".")}: ${issue.message}`)
    }
    const spec = parsed.data
    const needed = requiredVersion(spec)
    if (needed.localeCompare(spec.cdiVersion.replace(/^v/, ""), "en", { numeric: true }) > 0) {
      throw new Error(`it uses what came with version ${needed} of the format and says ${spec.cdiVersion}`)
    }
    const names = spec.devices.map(({ name }) => name)
    const twice = names.find((name, index) => names.indexOf(name) !== index)
    if (twice !== undefined) throw new Error(`it describes ${twice} twice`)
    // Stands for all devices of its kind together; runs here ask for a number of them instead.
    const single = spec.devices.filter(({ name }) => name !== "all")
    return single.map((device) => ({ name: `${spec.kind}=${device.name}`, path, priority, spec, device }))
  } catch (error) {
    problems.push(`${path} is not used: ${error instanceof Error ? error.message.split("\n", 1)[0] : String(error)}`)
    return []
  }
}

function unambiguous(candidates: readonly Candidate[], problems: string[]): Candidate[] {
  const byName = Map.groupBy(candidates, ({ name }) => name)
  return [...byName.values()].flatMap((same) => {
    const highest = Math.max(...same.map(({ priority }) => priority))
    const [first, second] = same.filter(({ priority }) => priority === highest)
    if (first === undefined) return []
    if (second === undefined) return [first]
    problems.push(`${first.name} is not offered: ${first.path} and ${second.path} both describe it`)
    return []
  })
}

/** Vendors' tools list one device under several names (its number, its serial number): handed out once, by the first. */
function withoutAliases(candidates: readonly Candidate[], problems: string[]): Candidate[] {
  const first = new Map<string, string>()
  return candidates.filter(({ name, spec, device }) => {
    const own = nodesOf(device.containerEdits)
    if (own === "") return true
    const key = `${spec.kind} ${own}`
    const known = first.get(key)
    if (known === undefined) return first.set(key, name)
    problems.push(`${name} is the same device as ${known} and goes by that name alone`)
    return false
  })
}

const nodesOf = ({ deviceNodes }: ContainerEdits): string =>
  deviceNodes
    .map(({ hostPath, path }) => hostPath ?? path)
    .sort()
    .join(" ")
