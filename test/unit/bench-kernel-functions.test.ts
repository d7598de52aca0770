import { describe, expect, it } from "vitest"
import { atLeast, chainsIn, frequencies, thinned } from "../bench/harness/kernel-functions.ts"

const sampleOf = (...names: string[]) => names.map((name) => `\tffffffff8157c701 ${name}`).join("\n")
const script = (...samples: string[]) => `${samples.join("\n\n")}\n\n`

describe("call chains that perf prints", () => {
  it("are one list of functions for each sample", () => {
    const printed = script(sampleOf("ksys_read", "do_syscall_64"), sampleOf("do_exit", "do_syscall_64"))
    expect(chainsIn(printed)).toEqual([
      ["ksys_read", "do_syscall_64"],
      ["do_exit", "do_syscall_64"],
    ])
  })

  it("leave out what ran while a device or a timer was served, and keep page faults", () => {
    const timer = sampleOf("run_timer_softirq", "__irq_exit_rcu", "asm_sysvec_apic_timer_interrupt", "ksys_read")
    const device = sampleOf("blk_done_softirq", "asm_common_interrupt")
    const fault = sampleOf("handle_mm_fault", "asm_exc_page_fault")
    expect(chainsIn(script(timer, device, fault))).toEqual([["handle_mm_fault", "asm_exc_page_fault"]])
  })

  it("count the parts that a compiler made of a function as that function, once", () => {
    expect(chainsIn(script(sampleOf("tcp_ack.part.0", "tcp_ack", "do_exit.cold", "sock_x.isra.0.cold")))).toEqual([
      ["tcp_ack", "do_exit", "sock_x"],
    ])
  })

  it("count filters that were loaded as one, and neither thunks nor unknown addresses at all", () => {
    const filters = sampleOf("bpf_prog_0123456789abcdef", "bpf_prog_fedcba9876543210_name", "bpf_prog_alloc")
    expect(chainsIn(script(filters))).toEqual([["bpf_prog", "bpf_prog_alloc"]])
    expect(chainsIn(script(sampleOf("__x86_indirect_thunk_rax", "[unknown]")))).toEqual([])
  })

  it("are none when nothing was printed", () => {
    expect(chainsIn("")).toEqual([])
  })
})

describe("comparing samples", () => {
  it("takes so many of a series, evenly over its length", () => {
    expect(thinned([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 5)).toEqual([0, 2, 4, 6, 8])
    expect(thinned([0, 1, 2], 2)).toEqual([0, 1])
  })

  it("takes all of a series that has not more", () => {
    expect(thinned([1, 2], 2)).toEqual([1, 2])
    expect(thinned([1, 2], 9)).toEqual([1, 2])
  })

  it("counts in how many samples each function was", () => {
    expect(Object.fromEntries(frequencies([["a", "b"], ["a"]]))).toEqual({ a: 2, b: 1 })
  })

  it("expects no more functions when none was seen only once", () => {
    expect(atLeast(10, new Map([["a", 5], ["b", 2]]))).toBe(2) // prettier-ignore
  })

  it("expects the more functions the more were seen only once", () => {
    const seen = new Map([...Array.from({ length: 4 }, (_, i) => [`once${i}`, 1] as const), ["twice", 2] as const])
    // 5 seen; 4 once, 1 twice, 100 samples: 0.99 × 4 × 3 ÷ (2 × 2) more
    expect(atLeast(100, seen)).toBeCloseTo(5 + 2.97)
  })

  it("expects nothing of no samples", () => {
    expect(atLeast(0, new Map())).toBe(0)
  })
})
