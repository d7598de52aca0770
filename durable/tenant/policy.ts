/** What the operator's policy for a tenant makes of its containers. Pure. */
import type { Policy } from "../../schema/api.ts"
import { CAPABILITIES, type Capability, type ContainerSpec } from "../../schema/container.ts"
import type { Refusal } from "./actions.ts"

type Asked = Pick<ContainerSpec, "capabilities">

/** Undefined when the container may run under the policy. */
export function refusedByPolicy(spec: Asked, policy: Policy): Refusal | undefined {
  if (policy.capabilities === "default" || spec.capabilities === undefined || spec.capabilities.length === 0) return undefined
  const named = spec.capabilities.join(", ")
  const detail = `The operator's policy allows no capabilities, and this container asks for ${named}. Ask for none.`
  return {
    code: "policy_refused",
    detail,
    errors: [{ pointer: "/capabilities", message: "none is allowed by the operator's policy" }],
  }
}

/** What its runs have: what it names, or what the profile gives when it names nothing and the policy does not forbid it. */
export function capabilitiesOf(spec: Asked, policy: Policy): Capability[] {
  if (policy.capabilities === "none") return []
  return [...(spec.capabilities ?? CAPABILITIES)]
}
