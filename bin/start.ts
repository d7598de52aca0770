/** `npm start`: brings the platform up on this machine, runs a first container and shows what became of it, then stays. */
import { rm } from "node:fs/promises"
import { parseArgs } from "node:util"
import { WEBHOOK_ALLOW } from "./control-plane.ts"
import { checkMachine, Fault } from "./faults.ts"
import { makeHelloImage } from "./hello-image.ts"
import { parseRanges } from "../durable/tenant/webhooks/destination.ts"
import { unlessAborted } from "../node-bridge/unless-aborted.ts"
import { layoutOf, startPlatform } from "./platform.ts"
import { Screen } from "./screen.ts"
import { firstContainer } from "./first-container.ts"
import { purgeNode } from "./purge.ts"

const HELP = `Usage: npm start -- [options]

Starts Berth on this machine (control plane and node), runs a first container and stays up until Ctrl-C.

  --once               end with 0 when the first container has exited and been removed; leave nothing behind
  --port N             port of the API on 127.0.0.1 (default 7070; 0 picks a free one)
  --state DIR          where everything is kept (default .berth)
  --reset              first stop what still runs from that folder, and delete it
  --runtime crun|runc  what runs the containers (default crun)
  --webhook-allow A,B  address ranges that webhooks may lead to beside public ones (default 127.0.0.1/32; "" for none)
  --verbose            show the log of the node and the control plane
  --help               this text
`

/** The shell's code for a program that a Ctrl-C ended. */
const INTERRUPTED = 130

async function main(): Promise<number> {
  const { values } = readArguments()
  if (values.help) {
    process.stdout.write(HELP)
    return 0
  }
  const port = Number(values.port)
  if (!/^\d+$/.test(values.port) || port > 65_535) throw new Fault(`--port takes a number from 0 to 65535, not “${values.port}”.`)
  if (values.runtime !== "crun" && values.runtime !== "runc")
    throw new Fault(`--runtime takes crun or runc, not “${values.runtime}”.`)
  const runtime = values.runtime
  checkRanges(values["webhook-allow"])
  const screen = new Screen(process.stdout, values.verbose)

  await checkMachine(values.state, port)
  if (values.reset) await screen.step("state", "cleared", () => reset(values.state, runtime))

  const interrupted = interruption()
  screen.title("Berth", "container-native cloud, embedded on this machine")
  await screen.step("image", "localhost/hello made from busybox-static", () => makeHelloImage(layoutOf(values.state).images))
  try {
    const platform = await startPlatform({
      state: values.state,
      port,
      runtime,
      webhookAllow: values["webhook-allow"],
      onStep: (step, detail) => screen.done(step, detail),
      onLog: (line) => screen.log(line),
      signal: interrupted,
    })
    screen.begin()
    try {
      await unlessAborted(firstContainer(platform.tenant, screen), interrupted)
      if (!values.once) {
        screen.invitation(platform.url, `${values.state}/env`)
        await unlessAborted(new Promise<never>(() => {}), interrupted)
      }
    } finally {
      await screen.step("shutdown", "containers stopped, platform ended", () => platform.stop("drain"))
    }
  } catch (error) {
    if (error !== interrupted.reason) throw error
    return values.once ? INTERRUPTED : 0
  }
  return 0
}

function readArguments() {
  try {
    return parseArgs({
      options: {
        once: { type: "boolean", default: false },
        port: { type: "string", default: "7070" },
        state: { type: "string", default: ".berth" },
        reset: { type: "boolean", default: false },
        runtime: { type: "string", default: "crun" },
        "webhook-allow": { type: "string", default: WEBHOOK_ALLOW },
        verbose: { type: "boolean", default: false },
        help: { type: "boolean", default: false },
      },
    })
  } catch (error) {
    throw new Fault(`${error instanceof Error ? error.message : String(error)}\n\n${HELP}`)
  }
}

function checkRanges(text: string): void {
  try {
    parseRanges(text)
  } catch (error) {
    throw new Fault(`--webhook-allow: ${error instanceof Error ? error.message : String(error)}`)
  }
}

async function reset(state: string, runtime: "crun" | "runc"): Promise<void> {
  await purgeNode(layoutOf(state).node, runtime)
  await rm(state, { recursive: true, force: true })
}

/** Aborts at Ctrl-C and its kin, once; a second one is left to the system and ends the process at once. */
function interruption(): AbortSignal {
  const controller = new AbortController()
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
    process.once(name, () => controller.abort(new Fault(`Stopped by ${name}.`)))
  return controller.signal
}

try {
  process.exitCode = await main()
} catch (error) {
  process.exitCode = 1
  if (error instanceof Fault) console.error(`berth: ${error.message}`)
  else console.error("berth: something failed that should not have. Please report this:\n", error)
}
// Idle keep-alive sockets would hold the process for seconds.
process.exit()
