/** Requests per second and latencies of one address, by wrk: a client that takes little of the machine that it shares. */
import { command, output } from "../harness/process.ts"

export interface Load {
  readonly perSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
}

const UNITS: Readonly<Record<string, number>> = { us: 0.001, ms: 1, s: 1000 }

/** @throws Error when wrk is not there, or an answer was not 2xx. */
export async function loadOf(
  url: string,
  { token, connections, seconds, signal }: { token: string | null; connections: number; seconds: number; signal: AbortSignal },
): Promise<Load> {
  const headers = token === null ? [] : ["-H", `Authorization: Bearer ${token}`]
  const args = ["-t1", `-c${connections}`, `-d${seconds}s`, "--latency", ...headers, url]
  const text = await output(command("wrk", ...args), signal)
  if (text === null) throw new Error("wrk could not be run; it is the Debian package wrk.")
  if (/Non-2xx|Socket errors/.test(text)) throw new Error(`${url} did not answer 2xx to all: ${text}`)
  const at = (share: string): number => {
    const [, value = "", unit = ""] = new RegExp(`${share}%\\s+([\\d.]+)(us|ms|s)`).exec(text) ?? []
    return Number(value) * (UNITS[unit] ?? Number.NaN)
  }
  return { perSecond: Number(/Requests\/sec:\s+([\d.]+)/.exec(text)?.[1]), p50Ms: at("50"), p99Ms: at("99") }
}
