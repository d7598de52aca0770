/**
 * `npm run test:gpu`: with an NVIDIA GPU on this machine, describes it as CDI has it, runs a hardened container that works on
 * it for real, and holds its speed against the host's. Without one it says so and tests nothing.
 */
import { execFileSync } from "node:child_process"
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { MIB } from "../schema/container.ts"
import { openHostBench } from "../test/support/host-bench.ts"
import { buildProbe } from "../test/support/probes.ts"

const KIND = "nvidia.com/gpu"
const ROUNDS = 5
const MOST_APART = 0.01
/** Where the driver's libraries are in the container: beside the image's own. */
const LIBRARIES = "/usr/lib/gpu"
/** The driver, and what it loads to compile for the GPU. */
const WANTED = /^lib(cuda|nvidia-(ptxjitcompiler|nvvm|gpucomp|ml))\.so/

const run = (file: string, ...args: string[]) => execFileSync(file, args, { encoding: "utf8" })
const median = (values: readonly number[]) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN

async function main(): Promise<number> {
  const gpu = readdirSync("/dev").find((name) => /^nvidia\d+$/.test(name))
  if (gpu === undefined) {
    console.log("There is no NVIDIA GPU on this machine (no /dev/nvidia0 or the like): nothing was tested.")
    return 0
  }
  if (process.getuid?.() !== 0) {
    console.error("Containers can only be run by root: run it as root, or with sudo.")
    return 1
  }
  const dir = mkdtempSync(join(tmpdir(), "berth-gpu-"))
  try {
    const program = join(dir, "gpu")
    buildProbe("gpu", program, ["-ldl"])
    return await compare(dir, gpu, program)
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

async function compare(dir: string, gpu: string, program: string): Promise<number> {
  describe(join(dir, "cdi"), gpu)
  const bench = await openHostBench({ devices: { cdiDirs: [join(dir, "cdi")] } })
  try {
    const root = join(bench.dir, "image")
    cpSync(program, join(root, "bin", "gpu"))
    // The image brings a C library, as every image with programs for a GPU does: here, this machine's.
    for (const library of librariesOf(program)) {
      mkdirSync(join(root, dirname(library)), { recursive: true })
      cpSync(realpathSync(library), join(root, library))
    }
    const times: { host: number[]; container: number[] } = { host: [], container: [] }
    for (let round = 0; round < ROUNDS; round++) {
      times.host.push(millisecondsIn(run(program)))
      const asked = bench.shell("exec gpu", { resources: { cpus: 2, memory_bytes: 4096 * MIB, pids: 256 } })
      const { outcome, text } = await bench.through({ ...asked, devices: [`${KIND}=0`] })
      await bench.controller.remove(asked.run_id)
      if (outcome.exit.code !== 0) throw new Error(`the container ended with ${outcome.exit.code}: ${text}`)
      times.container.push(millisecondsIn(text))
    }
    const [host, container] = [median(times.host), median(times.container)]
    const apart = Math.abs(container / host - 1)
    console.log(`host ${host.toFixed(3)} ms, container ${container.toFixed(3)} ms: ${(apart * 100).toFixed(2)} % apart`)
    if (apart <= MOST_APART) return 0
    console.error(`That is more than ${MOST_APART * 100} %.`)
    return 1
  } finally {
    await bench.close()
  }
}

function describe(cdiDir: string, gpu: string): void {
  const control = ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"].filter((path) => existsSync(path))
  const cuda = /=> (\S*libcuda\.so\.1)$/m.exec(run("ldconfig", "-p"))?.[1]
  if (cuda === undefined) throw new Error("ldconfig knows no libcuda.so.1: the driver's libraries are not installed.")
  const from = dirname(realpathSync(cuda))
  const libraries = readdirSync(from).filter((name) => WANTED.test(name))
  mkdirSync(cdiDir)
  const spec = {
    cdiVersion: "0.5.0",
    kind: KIND,
    containerEdits: {
      env: [`LD_LIBRARY_PATH=${LIBRARIES}`],
      deviceNodes: control.map((path) => ({ path })),
      mounts: libraries.map((name) => ({
        hostPath: join(from, name),
        containerPath: `${LIBRARIES}/${name}`,
        options: ["ro", "nosuid", "nodev", "bind"],
      })),
    },
    devices: [{ name: "0", containerEdits: { deviceNodes: [{ path: `/dev/${gpu}` }] } }],
  }
  writeFileSync(join(cdiDir, "gpu.json"), JSON.stringify(spec), { mode: 0o644 })
}

/** Paths of the C library's parts: the program's own, and those that the driver is known to need. */
function librariesOf(program: string): string[] {
  const needed = [...run("ldd", program).matchAll(/(\/\S+)/g)].flatMap(([, path]) => (path === undefined ? [] : [path]))
  const known = [...run("ldconfig", "-p").matchAll(/^\s+lib(dl|rt|m|pthread)\.so\.\d+ .*x86-64.* => (\S+)$/gm)]
  return [...needed, ...known.flatMap(([, , path]) => (path === undefined ? [] : [path]))]
}

function millisecondsIn(text: string): number {
  const value = Number(text.trim())
  if (!(value > 0)) throw new Error(`the GPU did not do its work: ${text.trim()}`)
  return value
}

process.exitCode = await main()
