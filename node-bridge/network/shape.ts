/**
 * What a rate in bytes per second means for the token bucket that enforces it, one at each end of a container's link: the
 * host's end lets in, the container's end lets out (its network namespace is the host's, so it cannot touch it). The bucket
 * shapes: what is too fast waits, and is dropped only when the queue is full. Whole frames count, headers included. Pure.
 */
export interface Shape {
  readonly bytesPerSecond: number
  /** What may go at once after a pause. */
  readonly burstBytes: number
  /** What may wait. */
  readonly limitBytes: number
}

/** Long enough for timers and large segments, short enough that nobody calls it a breach of the rate. */
const BURST_SECONDS = 0.02
/** As much delay as a queue may add; more only makes senders slow to notice. */
const QUEUE_SECONDS = 0.1
/** A bucket that never holds a whole frame would never let one through. */
const MIN_BURST_FRAMES = 4
/** Room for what TCP sends at first (RFC 6928: ten segments) and as much again. */
const MIN_QUEUE_FRAMES = 20
/** Beyond these the machine is the limit; they keep the kernel's 32-bit fields far from their end. */
const MAX_BURST_BYTES = 4 * 1024 * 1024
const MAX_QUEUE_BYTES = 64 * 1024 * 1024
const ETHERNET_HEADER_BYTES = 14

const between = (least: number, value: number, most: number) => Math.min(Math.max(least, Math.ceil(value)), most)

export function shapeOf(bytesPerSecond: number, mtu: number): Shape {
  const frame = mtu + ETHERNET_HEADER_BYTES
  return {
    bytesPerSecond,
    burstBytes: between(MIN_BURST_FRAMES * frame, bytesPerSecond * BURST_SECONDS, MAX_BURST_BYTES),
    limitBytes: between(MIN_QUEUE_FRAMES * frame, bytesPerSecond * QUEUE_SECONDS, MAX_QUEUE_BYTES),
  }
}
