/**
 * What a container may ask of a profile that not every node can do under it. A node offers the features that its self-test
 * saw work; placement asks for those that a container needs, and says which is missing.
 */
import type { ContainerSpec } from "./container.ts"

export const FEATURES = [
  "network",
  "bandwidth",
  "seccomp",
  "io_limits",
  "buffered_io_limits",
  "io_weight",
  "accelerators",
  "pause",
  "disk_quota",
] as const
export type Feature = (typeof FEATURES)[number]

/** Pure: the features without which a node cannot honour this spec. */
export function featuresFor({
  network,
  seccomp,
  resources,
}: Pick<ContainerSpec, "network" | "seccomp" | "resources">): Feature[] {
  const { weight, ...limits } = resources.io
  const rates = [network.egress_bytes_per_second, network.ingress_bytes_per_second]
  const asked: Record<Feature, boolean> = {
    network: network.egress !== "none",
    bandwidth: rates.some((rate) => rate !== undefined),
    seccomp: seccomp.deny.length > 0,
    io_limits: Object.values(limits).some((limit) => limit !== undefined),
    buffered_io_limits: false, // without it the limits hold for direct and synced I/O, which a warning tells
    io_weight: weight !== undefined,
    accelerators: resources.accelerators.length > 0,
    pause: false, // asked for later, by the call itself
    disk_quota: true,
  }
  return FEATURES.filter((feature) => asked[feature])
}
