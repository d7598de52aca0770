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
  const ofNetwork: readonly Feature[] = networkFeatures(network)
  const asked: Record<Feature, boolean> = {
    network: ofNetwork.includes("network"),
    bandwidth: ofNetwork.includes("bandwidth"),
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

export type NetworkFeature = Extract<Feature, "network" | "bandwidth">

/** Pure: those that the network alone needs. It can change while a run is live; the rest of a spec cannot. */
export function networkFeatures({
  egress,
  egress_bytes_per_second,
  ingress_bytes_per_second,
}: ContainerSpec["network"]): NetworkFeature[] {
  const needed: NetworkFeature[] = egress === "none" ? [] : ["network"]
  const limited = egress_bytes_per_second !== undefined || ingress_bytes_per_second !== undefined
  return limited ? [...needed, "bandwidth"] : needed
}

/** gVisor's kernel and file server have some 25 threads at rest; the rest is for those that it takes under load. */
const SANDBOX_PIDS = 512
/** What each process inside takes of its host, as seen: 8 to 11, all of them made and idle or busy. */
const SANDBOX_PIDS_EACH = 10

/**
 * Pure: how many processes and threads of its host a run may take. Of a sandboxed one the host sees the threads of the
 * container's own kernel, several for each process inside. Past this the kernel ends, and the container with it: one that
 * starts processes without a pause may get there with fewer at once than it asked for.
 */
export function hostPids({ profile, resources }: Pick<ContainerSpec, "profile" | "resources">): number {
  switch (profile) {
    case "hardened":
      return resources.pids
    case "sandboxed":
      return SANDBOX_PIDS + SANDBOX_PIDS_EACH * resources.pids
  }
}
