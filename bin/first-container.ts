/** Runs one container through the API as any tenant would, and shows its log, its isolation and where its time went. */
import type { Container } from "../schema/api.ts"
import type { Isolation } from "../schema/isolation.ts"
import type { Client } from "./client.ts"
import { Fault } from "./faults.ts"
import { duration, type Screen } from "./screen.ts"

export async function firstContainer(tenant: Client, screen: Screen): Promise<void> {
  screen.begin()
  const asked = performance.now()
  const { id } = await tenant.post<Container>("/v1/containers", { image: "localhost/hello", labels: { made_by: "npm-start" } })
  const settled = await tenant.get<Container>(`/v1/containers/${id}/wait?status=settled&timeout=60`)
  if (settled.status !== "running")
    throw new Fault(`The first container did not start: ${settled.reason?.message ?? settled.status}`)
  const ms = performance.now() - asked
  screen.done("container", `${id} is running, ${duration(ms)} after it was asked for`)
  screen.block("steps", [trail(settled)])
  screen.block("isolation", summary(await tenant.get<Isolation>(`/v1/containers/${id}/isolation`)))
  const exited = await tenant.get<Container>(`/v1/containers/${id}/wait?status=exited&timeout=60`)
  screen.block("log", (await tenant.text(`/v1/containers/${id}/logs`)).trimEnd().split("\n"))
  screen.block("exit", [exited.reason?.message ?? "", ...(exited.run?.exit ? [`code ${exited.run.exit.code}`] : [])])
  await tenant.delete(`/v1/containers/${id}`)
  await tenant.get(`/v1/containers/${id}/wait?status=removed&timeout=60`)
  screen.done("removed", "nothing of it is left")
}

function trail(container: Container): string {
  return Object.entries(container.run?.timings ?? {})
    .map(([step, ms]) => `${step} ${duration(ms)}`)
    .join(" · ")
}

function summary(isolation: Isolation): string[] {
  const { namespaces, user, capabilities, seccomp, limits } = isolation
  const [map] = user.uid_map
  const shared = Object.entries(namespaces).filter(([, { shared_with: own }]) => !own)
  return [
    `read back from outside: verdict “${isolation.verdict}”${isolation.deviations.length ? ` (${isolation.deviations.join("; ")})` : ""}`,
    `${Object.keys(namespaces).length - shared.length} namespaces of its own${shared.length ? `, shared: ${shared.map(([name]) => name).join(", ")}` : ""}; root inside is uid ${map?.outside ?? "?"} outside`,
    `capabilities: ${capabilities.bounding.join(" ") || "none"}; no new privileges: ${isolation.no_new_privileges ? "yes" : "no"}`,
    `seccomp ${seccomp.mode}${seccomp.sha256 ? ` ${seccomp.sha256.slice(0, 12)}` : ""}; ${isolation.masked_paths.length} paths masked; network ${isolation.network.mode}`,
    `limits: ${limits.cpus ?? "no"} cpus, ${limits.memory_bytes === null ? "no" : Math.round(limits.memory_bytes / 1048576)} MiB, ${limits.pids ?? "no"} processes`,
  ]
}
