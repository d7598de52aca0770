/** A foreseeable fault of starting up: one clear sentence and an exit code, never a stack trace. */

export const EXIT = {
  ok: 0,
  /** Something nobody foresaw. */
  internal: 1,
  /** The command line or the environment is wrong. */
  usage: 2,
  /** The host lacks something: root, a writable state directory. */
  host: 3,
  /** Another bridge uses this state directory, or this node's key. */
  taken: 4,
  /** The platform refused the join token or forgot this node. */
  refused: 5,
} as const

export class Fault extends Error {
  readonly exitCode: number
  constructor(exitCode: number, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.name = "Fault"
    this.exitCode = exitCode
  }
}
