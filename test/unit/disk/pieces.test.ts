import { array, assert, constant, nat, oneof, property, uint8Array } from "fast-check"
import { expect, it } from "vitest"
import { piecesOf } from "../../../node-bridge/disk/pieces.ts"

const BLOCK = 8

it("what is written makes the same file, and no piece is larger than it must be", () => {
  const aBlock = oneof(constant(Buffer.alloc(BLOCK)), uint8Array({ minLength: BLOCK, maxLength: BLOCK }))
  assert(
    property(array(aBlock, { maxLength: 20 }), nat(5), (blocks, skipped) => {
      const data = Buffer.concat(blocks)
      const offset = skipped * BLOCK
      const copy = Buffer.alloc(data.length + offset)
      const pieces = piecesOf(data, offset, BLOCK)
      for (const piece of pieces) piece.data.copy(copy, piece.at)
      expect(copy.subarray(offset).equals(data)).toBe(true)
      const full = blocks.filter((block) => block.some((byte) => byte !== 0)).length
      expect(pieces.reduce((sum, piece) => sum + piece.data.length, 0)).toBe(full * BLOCK)
    }),
  )
})

it("a last block that is cut short counts whole", () => {
  expect(piecesOf(Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 1]), 16, BLOCK)).toEqual([{ at: 24, data: Buffer.from([1]) }])
})
