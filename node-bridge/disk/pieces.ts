/** What must be written to make a copy of a file that is mostly zeros. Pure. */

export interface Piece {
  readonly at: number
  readonly data: Buffer
}

/** The runs of blocks in `data` that are not all zeros, `data` lying at `offset` of its file. */
export function piecesOf(data: Buffer, offset: number, blockBytes: number): Piece[] {
  const pieces: Piece[] = []
  let from = -1
  for (let at = 0; at < data.length + blockBytes; at += blockBytes) {
    const empty = at >= data.length || data.subarray(at, at + blockBytes).every((byte) => byte === 0)
    if (!empty && from === -1) from = at
    if (empty && from !== -1) {
      pieces.push({ at: offset + from, data: Buffer.from(data.subarray(from, at)) })
      from = -1
    }
  }
  return pieces
}
