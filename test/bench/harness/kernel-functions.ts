/**
 * Which functions of the kernel a workload went through, from call chains that were sampled while it ran. Pure. A sample shows
 * the functions on the stack at one moment, so what is short or rare is seen by chance: sets are compared at equal numbers of
 * samples, and how many were missed at least is estimated.
 */

/** The distinct functions of one sample, innermost first. */
export type Chain = readonly string[]

/** Frames of a sample that was taken while the processor served a device or a timer: the task only lent its stack. */
const INTERRUPT = /^asm_(sysvec_|common_interrupt|exc_nmi)/
/** Steps of a call, not functions of anybody. */
const THUNK = /^(__x86_(indirect|return)_thunk|srso_|retbleed_)|^\[unknown\]$/
/** Parts that a compiler makes of one function: `tcp_ack.part.0`, `do_exit.cold`. */
const PART = /\.(isra|part|constprop|cold|llvm)\b.*$/
/** A filter or program that somebody loaded; its name has its hash. */
const LOADED = /^bpf_prog_[0-9a-f]{16}.*$/

/**
 * Reads what `perf script -F ip,sym` prints: a line `ADDRESS NAME` for each frame and an empty line after each sample. Samples
 * of interrupts are left out.
 */
export function chainsIn(text: string): Chain[] {
  return text.split(/\n\s*\n/).flatMap((sample) => {
    const frames = sample.split("\n").flatMap((line) => /^\s*[0-9a-f]+\s+(\S+)/.exec(line)?.[1] ?? [])
    if (frames.length === 0 || frames.some((frame) => INTERRUPT.test(frame))) return []
    const functions = new Set(frames.filter((frame) => !THUNK.test(frame)).map(wholeName))
    return functions.size === 0 ? [] : [[...functions]]
  })
}

const wholeName = (frame: string): string => frame.replace(PART, "").replace(LOADED, "bpf_prog")

/** `count` of a series, evenly over its length; all of it when it has not more. */
export const thinned = <T>(series: readonly T[], count: number): readonly T[] =>
  count >= series.length
    ? series
    : Array.from({ length: count }, (_, i) => Math.floor((i * series.length) / count)).flatMap((i) => series.slice(i, i + 1))

/** In how many samples each function was. */
export function frequencies(chains: readonly Chain[]): Map<string, number> {
  const found = new Map<string, number>()
  for (const chain of chains) for (const each of chain) found.set(each, (found.get(each) ?? 0) + 1)
  return found
}

/**
 * How many functions there are at least, seen or not: Chao's estimate from those that were in exactly one and in exactly two
 * samples (A. Chao, "Estimating the population size for capture-recapture data with unequal catchability", Biometrics 43, 1987,
 * in its form without bias).
 */
export function atLeast(samples: number, seen: ReadonlyMap<string, number>): number {
  let once = 0
  let twice = 0
  for (const times of seen.values()) {
    if (times === 1) once++
    if (times === 2) twice++
  }
  return samples === 0 ? 0 : seen.size + (((samples - 1) / samples) * once * (once - 1)) / (2 * (twice + 1))
}
