/**
 * Runs a system call filter as the kernel would, over numbers and arguments of a test's choice. Only the instructions that
 * libseccomp makes; any other throws. Source: linux/filter.h, linux/bpf_common.h, `struct seccomp_data` of linux/seccomp.h.
 */

export const AUDIT_ARCH = { x86_64: 0xc000003e, i386: 0x40000003, aarch64: 0xc00000b7 } as const

export interface Call {
  readonly number: number
  readonly args?: readonly (number | bigint)[]
  readonly architecture?: number
}

export type Verdict = { readonly kind: "allow" } | { readonly kind: "errno"; readonly errno: number } | { readonly kind: "kill" }

const BYTES = 8
const LOAD_ABSOLUTE = 0x20
const AND = 0x54
const JUMP = 0x05
const RETURN = 0x06
const COMPARE: Readonly<Record<number, (a: number, k: number) => boolean>> = {
  0x15: (a, k) => a === k,
  0x25: (a, k) => a > k,
  0x35: (a, k) => a >= k,
  0x45: (a, k) => (a & k) !== 0,
}

export function evaluate(program: Buffer, { number, args = [], architecture = AUDIT_ARCH.x86_64 }: Call): Verdict {
  const data = Buffer.alloc(64)
  data.writeUInt32LE(number >>> 0, 0)
  data.writeUInt32LE(architecture >>> 0, 4)
  for (const [i, value] of args.entries()) data.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value)), 16 + 8 * i)
  let a = 0
  for (let at = 0; at * BYTES < program.length; at++) {
    const code = program.readUInt16LE(at * BYTES)
    const k = program.readUInt32LE(at * BYTES + 4)
    const test = COMPARE[code]
    if (code === RETURN) return verdict(k)
    if (code === LOAD_ABSOLUTE) a = data.readUInt32LE(k)
    else if (code === AND) a = (a & k) >>> 0
    else if (code === JUMP) at += k
    else if (test !== undefined) at += program.readUInt8(at * BYTES + (test(a, k) ? 2 : 3))
    else throw new Error(`instruction ${code.toString(16)} at ${at}`)
  }
  throw new Error("the program ended without a verdict")
}

function verdict(action: number): Verdict {
  const kind = (action & 0xffff0000) >>> 0
  if (kind === 0x7fff0000) return { kind: "allow" }
  if (kind === 0x00050000) return { kind: "errno", errno: action & 0xffff }
  if (kind === 0x80000000) return { kind: "kill" }
  throw new Error(`action ${action.toString(16)}`)
}
