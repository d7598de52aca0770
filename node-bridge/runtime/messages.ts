/**
 * What a runtime said when it could not start a container, in words for the tenant. Pure. An ordered table: the first row
 * that fits wins, the last fits everything. A tenant never sees a path of the host.
 */
import type { Reason } from "../../schema/protocol.ts"

export interface StartFailure {
  readonly reason: Reason
  /** The exit code that a shell would give for the same fault; null when the process is not at fault. */
  readonly exitCode: 126 | 127 | null
  /** The same start may succeed in a moment: something of the host was short. */
  readonly retryable: boolean
}

export interface StartContext {
  /** The first word of the process. */
  readonly command: string
  readonly workdir: string
  /** Directories of the host that a message may hold. */
  readonly hostDirs: readonly string[]
}

interface Row {
  readonly when: RegExp
  readonly code: string
  readonly exitCode: 126 | 127 | null
  readonly retryable: boolean
  readonly say: (context: StartContext, said: string) => string
}

const quote = (text: string) => `“${text.length > 200 ? `${text.slice(0, 200)}…` : text}”`

const ROWS: readonly Row[] = [
  // The working directory first: its messages speak of missing files too.
  {
    when: /not a directory|chdir|\bcwd\b|working directory|mkdir.*cwd/i,
    code: "workdir_invalid",
    exitCode: 126,
    retryable: false,
    say: ({ workdir }) => `The working directory ${quote(workdir)} is not a directory that the container may use.`,
  },
  {
    when: /executable file .*not found|not found in \$?PATH|exec.*no such file or directory|stat .*no such file or directory|executable.*no such file/i,
    code: "command_not_found",
    exitCode: 127,
    retryable: false,
    say: ({ command }) =>
      command.includes("/")
        ? `${quote(command)} was not found in the image.`
        : `${quote(command)} was not found in the image's PATH.`,
  },
  {
    when: /permission denied|open executable|exec format error|is a directory|not executable|not a regular file|invalid argument.*exec/i,
    code: "command_not_executable",
    exitCode: 126,
    retryable: false,
    say: ({ command }) => `${quote(command)} cannot be executed.`,
  },
  {
    when: /argument list too long/i,
    code: "arguments_too_long",
    exitCode: 126,
    retryable: false,
    say: () => "The arguments and the environment together are too long.",
  },
  {
    when: /cannot allocate memory|resource temporarily unavailable|no space left|too many open files|did not end within|device or resource busy/i,
    code: "start_failed",
    exitCode: null,
    retryable: true,
    say: (context, said) => `The host could not start the container: ${clean(said, context.hostDirs)}`,
  },
  {
    when: /container (process|init) .*(exited|killed|dead)|out of memory|oom/i,
    code: "start_failed",
    exitCode: null,
    retryable: false,
    say: () => "The container ended while it was being started; its memory limit may be too small.",
  },
  {
    when: /(?:)/,
    code: "start_failed",
    exitCode: null,
    retryable: false,
    say: (context, said) => `The container could not be started: ${clean(said, context.hostDirs)}`,
  },
]

export function explainStartFailure(said: string, context: StartContext): StartFailure {
  const row = ROWS.find((candidate) => candidate.when.test(said))
  if (row === undefined) throw new Error("the last row fits every message")
  return {
    reason: { code: row.code, message: row.say(context, said) },
    exitCode: row.exitCode,
    retryable: row.retryable,
  }
}

const MAX_SAID = 300

/** One short line, without the host's directories, descriptors and the runtime's own log prefix. */
export function clean(said: string, hostDirs: readonly string[]): string {
  let line = said.replace(/\s+/g, " ").trim()
  line = line.replace(/^(?:\d{4}-\S+|time="[^"]*") (?:level=\w+ )?(?:msg=)?/, "").replace(/\b(?:crun|runc) ?: ?/g, "")
  for (const dir of [...hostDirs].sort((a, b) => b.length - a.length)) line = line.replaceAll(dir, "…")
  line = line.replace(/\/proc\/\d+\/fd\/\d+/g, "…").replace(/\/(?:sys\/fs\/cgroup|run|var|usr|etc\/berth)\/\S*/g, "…")
  return line.length > MAX_SAID ? `${line.slice(0, MAX_SAID)}…` : line
}
