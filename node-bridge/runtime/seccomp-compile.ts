/**
 * Compiles the allow-list to the kernel's own form (classic BPF) with libseccomp in this process. crun then loads it as it is
 * instead of compiling the list anew for every container, which costs 3 to 19 ms each.
 *
 * Constants from seccomp.h of libseccomp 2.5 and linux/bpf_common.h.
 */
import { closeSync, openSync, readFileSync, unlinkSync } from "node:fs"
import { join } from "node:path"
import koffi from "koffi"
import { ENOSYS, EPERM, NEWEST_KNOWN_NUMBER } from "../oci/seccomp.ts"
import type { ArgumentRule, Rules } from "../oci/seccomp.ts"

const ALLOW = 0x7fff0000
const KILL_PROCESS = 0x80000000
const errno = (code: number) => 0x00050000 | code
const ATTRIBUTE = { badArchitecture: 2, optimize: 8 } as const
/** A balanced tree over the numbers instead of one long chain: a call passes some ten tests, not hundreds. */
const OPTIMIZE_TREE = 2
const COMPARE = { equal: 4, above: 6, none_of: 7 } as const

/** What libseccomp answers for a name that no architecture has; other negative numbers are of another architecture. */
const NO_SUCH_CALL = -1

const lib = koffi.load("libseccomp.so.2")
const init = lib.func("void *seccomp_init(uint32_t action)")
const release = lib.func("void seccomp_release(void *context)")
const setAttribute = lib.func("int seccomp_attr_set(void *context, int attribute, uint32_t value)")
const resolve = lib.func("int seccomp_syscall_resolve_name(const char *name)")
const addRule = lib.func(
  "int seccomp_rule_add_array(void *context, uint32_t action, int call, unsigned int count, const void *tests)",
)
const exportBpf = lib.func("int seccomp_export_bpf(void *context, int fd)")

/** The number of a system call on this machine; null where it has none. */
export function numberOf(name: string): number | null {
  const number: number = resolve(name)
  return number < 0 ? null : number
}

/** The names that no Linux that libseccomp knows has a system call of. */
export function unknownCalls(names: readonly string[]): string[] {
  return names.filter((name) => (resolve(name) as number) === NO_SUCH_CALL)
}

/** A filter as the kernel takes it: an array of `struct sock_filter`, eight bytes each. */
export function compileSeccomp(scratchDir: string, { plain, conditional, refusedArguments, absent }: Rules): Buffer {
  const context: unknown = init(errno(EPERM))
  if (context === null) throw new Error("libseccomp: no context")
  const file = join(scratchDir, `seccomp-${process.pid}.bpf`)
  try {
    checked("bad architecture", setAttribute(context, ATTRIBUTE.badArchitecture, KILL_PROCESS))
    checked("optimize", setAttribute(context, ATTRIBUTE.optimize, OPTIMIZE_TREE))
    const add = (name: string, action: number, when: readonly ArgumentRule[]) => {
      const number = numberOf(name)
      if (number !== null) checked(name, addRule(context, action, number, when.length, encodeTests(when)))
    }
    for (const name of plain) add(name, ALLOW, [])
    for (const { name, when } of conditional) add(name, ALLOW, when)
    for (const refused of refusedArguments) add(refused.name, errno(refused.errno), refused.when)
    for (const name of absent) add(name, errno(ENOSYS), [])
    const fd = openSync(file, "w", 0o600)
    try {
      checked("export", exportBpf(context, fd))
    } finally {
      closeSync(fd)
    }
    return Buffer.concat([newerThanKnown(), readFileSync(file)])
  } finally {
    release(context)
    unlinkIfThere(file)
  }
}

function checked(what: string, result: number): void {
  if (result < 0) throw new Error(`libseccomp: ${what}: ${result}`)
}

/** `struct scmp_arg_cmp[]`: argument, operator (32 bits each), two operands (64 bits each). */
function encodeTests(when: readonly ArgumentRule[]): Buffer {
  const bytes = Buffer.alloc(24 * when.length)
  for (const [i, { index, test, value }] of when.entries()) {
    bytes.writeUInt32LE(index, i * 24)
    bytes.writeUInt32LE(COMPARE[test], i * 24 + 4)
    bytes.writeBigUInt64LE(BigInt(value), i * 24 + 8)
    bytes.writeBigUInt64LE(0n, i * 24 + 16) // of a masked test: what must remain
  }
  return bytes
}

/** Three instructions before libseccomp's own: a call with a number above all that we know does not exist. */
function newerThanKnown(): Buffer {
  const bytes = Buffer.alloc(24)
  const put = (at: number, code: number, jumpTrue: number, jumpFalse: number, k: number) => {
    bytes.writeUInt16LE(code, at)
    bytes.writeUInt8(jumpTrue, at + 2)
    bytes.writeUInt8(jumpFalse, at + 3)
    bytes.writeUInt32LE(k, at + 4)
  }
  put(0, 0x20, 0, 0, 0) // A = seccomp_data.nr
  put(8, 0x25, 0, 1, NEWEST_KNOWN_NUMBER) // if A > k go on, else skip one
  put(16, 0x06, 0, 0, errno(ENOSYS)) // return
  return bytes
}

function unlinkIfThere(file: string): void {
  try {
    unlinkSync(file)
  } catch {
    // It was never written.
  }
}
