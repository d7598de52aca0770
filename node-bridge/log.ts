/** The bridge's own log: one line per thing worth knowing, on stderr. What containers write never comes here. */

export type LogFields = Readonly<Record<string, string | number | boolean | null | undefined>>

export interface Log {
  info(message: string, fields?: LogFields): void
  warn(message: string, fields?: LogFields): void
  error(message: string, fields?: LogFields): void
}

type Level = "info" | "warn" | "error"

export function createLog(format: "text" | "json", write = (line: string): void => void process.stderr.write(line)): Log {
  const at =
    (level: Level) =>
    (message: string, fields: LogFields = {}): void => {
      const time = new Date().toISOString()
      write(
        format === "json"
          ? `${JSON.stringify({ time, level, message, ...fields })}\n`
          : `${textLine(time, level, message, fields)}\n`,
      )
    }
  return { info: at("info"), warn: at("warn"), error: at("error") }
}

export const silentLog: Log = { info() {}, warn() {}, error() {} }

function textLine(time: string, level: Level, message: string, fields: LogFields): string {
  const rest = Object.entries(fields)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => ` ${key}=${typeof value === "string" ? JSON.stringify(value) : value}`)
  return `${time} ${level === "info" ? "" : `${level}: `}${message}${rest.join("")}`
}

/** An error and its causes as one line. */
export function explain(error: unknown): string {
  const parts: string[] = []
  for (let at: unknown = error, depth = 0; at !== undefined && depth < 5; depth++) {
    parts.push(at instanceof Error ? at.message : String(at))
    at = at instanceof Error ? at.cause : undefined
  }
  return parts.join(": ")
}
