/**
 * Reads the first seccomp filter of a process back from the kernel: the process is stopped for about half a millisecond,
 * which PTRACE_SEIZE does without it seeing a signal. Requests from ptrace(2) and linux/ptrace.h.
 *
 * Every call must come from one thread, and so they do: koffi's plain calls run on the one that JavaScript has. Should this
 * process die in between, the kernel lets the other one go.
 */
import { createHash } from "node:crypto"
import { setTimeout as delay } from "node:timers/promises"
import koffi from "koffi"

const SEIZE = 0x4206
const INTERRUPT = 0x4207
const GET_FILTER = 0x420c
const DETACH = 17
const WALL_NOHANG = 0x40000000 | 1
const EVENT_STOP = 128
const BYTES_PER_INSTRUCTION = 8

/** Longer than a process that can stop needs; one in an uninterruptible call may take for ever. */
const ANSWER_MS = 200
const POLL_MS = 1

interface Calls {
  readonly ptrace: (request: number, pid: number, data?: Buffer | number) => number
  readonly waitpid: (pid: number, status: [number], options: number) => number
}
let calls: Calls | null = null

function load(): Calls {
  const libc = koffi.load("libc.so.6")
  const plain = libc.func("ptrace", "long", ["long", "long", "intptr_t", "intptr_t"])
  const filling = libc.func("ptrace", "long", ["long", "long", "intptr_t", "_Out_ uint8_t *"])
  return {
    ptrace: (request, pid, data) =>
      Number(Buffer.isBuffer(data) ? filling(request, pid, 0, data) : plain(request, pid, 0, data ?? 0)),
    waitpid: libc.func("int waitpid(int pid, _Out_ int *status, int options)"),
  }
}

/** The filter's SHA-256 in hex; null when it cannot be read. Do not call it for a frozen process: it cannot stop. */
export function readFilterSha256(pid: number): Promise<string | null> {
  const { promise, resolve } = Promise.withResolvers<string | null>()
  const timer = setTimeout(() => resolve(null), ANSWER_MS)
  // Goes on after the answer is given up: a process that was told to stop must also be let go.
  inspectStopped(pid)
    .then(resolve, () => resolve(null))
    .finally(() => clearTimeout(timer))
  return promise
}

async function inspectStopped(pid: number): Promise<string | null> {
  const { ptrace, waitpid } = (calls ??= load())
  if (ptrace(SEIZE, pid) < 0) return null
  ptrace(INTERRUPT, pid)
  const status: [number] = [0]
  for (;;) {
    const answered = waitpid(pid, status, WALL_NOHANG)
    if (answered < 0) return null
    if (answered === pid) break
    await delay(POLL_MS)
  }
  const stopped = (status[0] & 0xff) === 0x7f
  if (!stopped) return null // it ended
  try {
    const count = ptrace(GET_FILTER, pid)
    if (count <= 0) return null
    const filter = Buffer.alloc(count * BYTES_PER_INSTRUCTION)
    return ptrace(GET_FILTER, pid, filter) === count ? createHash("sha256").update(filter).digest("hex") : null
  } finally {
    // A signal that was about to be delivered is passed on; a stop that we asked for carries none.
    const signal = status[0] >> 16 === EVENT_STOP ? 0 : (status[0] >> 8) & 0xff
    ptrace(DETACH, pid, signal)
  }
}
