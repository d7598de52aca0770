/** What the figures were measured on. */
import { existsSync } from "node:fs"
import { cpus, release, totalmem } from "node:os"
import { command, output } from "./process.ts"
import type { Machine } from "./report.ts"

const TOOLS: Readonly<Record<string, readonly [file: string, ...args: string[]]>> = {
  crun: ["crun", "--version"],
  runc: ["runc", "--version"],
  conmon: ["conmon", "--version"],
  docker: ["dockerd", "--version"],
}

export async function machineFacts(): Promise<Machine> {
  const processors = cpus()
  const versions = await Promise.all(
    Object.entries(TOOLS).map(
      async ([tool, [file, ...args]]) => [tool, versionIn(await output(command(file, ...args)))] as const,
    ),
  )
  return {
    cpus: processors.length,
    cpu_model: processors[0]?.model.trim() ?? "unknown",
    memory_mib: Math.round(totalmem() / 1024 ** 2),
    kernel: release(),
    cgroups: cgroupLayout(),
    versions: { node: process.versions.node, ...Object.fromEntries(versions) },
  }
}

/** The first thing that looks like a version: "crun version 1.8.1", "Docker version 20.10.24+dfsg1, build …". */
export const versionIn = (text: string | null): string | null => text?.match(/\d+\.\d+[^\s,]*/)?.[0] ?? null

function cgroupLayout(): string {
  if (existsSync("/sys/fs/cgroup/cgroup.controllers")) return "v2"
  return existsSync("/sys/fs/cgroup/unified") ? "v1 with v2 beside it" : "v1"
}
