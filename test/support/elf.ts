/** The smallest program that says whose powers it has: it ends with its effective uid as exit code. ELF for x86-64. */
import { Buffer } from "node:buffer"

const BASE = 0x40_0000
const HEADERS = 64 + 56
/** mov eax, 107 (geteuid); syscall; mov edi, eax; mov eax, 60 (exit); syscall */
const CODE = Buffer.from("b86b0000000f0589c7b83c0000000f05", "hex")

export function exitsWithUid(): Buffer {
  const file = Buffer.alloc(HEADERS)
  file.write("\x7fELF\x02\x01\x01", "latin1")
  file.writeUInt16LE(2, 16) // an executable
  file.writeUInt16LE(62, 18) // for x86-64
  file.writeUInt32LE(1, 20)
  file.writeBigUInt64LE(BigInt(BASE + HEADERS), 24)
  file.writeBigUInt64LE(64n, 32)
  file.writeUInt16LE(64, 52)
  file.writeUInt16LE(56, 54)
  file.writeUInt16LE(1, 56)
  file.writeUInt32LE(1, 64) // load it all,
  file.writeUInt32LE(5, 68) // to read and execute
  const size = BigInt(HEADERS + CODE.length)
  file.writeBigUInt64LE(BigInt(BASE), 80)
  file.writeBigUInt64LE(BigInt(BASE), 88)
  file.writeBigUInt64LE(size, 96)
  file.writeBigUInt64LE(size, 104)
  file.writeBigUInt64LE(4096n, 112)
  return Buffer.concat([file, CODE])
}
