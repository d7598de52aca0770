import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import {
  ABSENT_CALLS,
  allowedNames,
  CLONE_NEW_FLAGS,
  CONDITIONAL_CALLS,
  narrowed,
  NEWEST_KNOWN_NUMBER,
  seccompForRuntime,
} from "../../../node-bridge/oci/seccomp.ts"
import type { ArgumentRule } from "../../../node-bridge/oci/seccomp.ts"
import { compileSeccomp, numberOf } from "../../../node-bridge/runtime/seccomp-compile.ts"
import { NEEDED_TO_START, SeccompFilters } from "../../../node-bridge/runtime/seccomp-filters.ts"
import { AUDIT_ARCH, evaluate } from "../../support/bpf.ts"
import { DOCKER_DEFAULT_CONDITIONS, DOCKER_DEFAULT_NAMES } from "./docker-default.ts"

const everyName = () => new Set([...allowedNames(), ...CONDITIONAL_CALLS.map((call) => call.name)])

let dir = ""
let program: Buffer = Buffer.alloc(0)
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "berth-seccomp-"))
  program = compileSeccomp(dir, narrowed([]))
})
afterAll(() => rmSync(dir, { recursive: true }))

const numbered = (name: string) => numberOf(name) ?? expect.fail(`${name} has no number here`)
const judge = (name: string, ...args: (number | bigint)[]) => evaluate(program, { number: numbered(name), args })
const ALLOW = { kind: "allow" }
const EPERM = { kind: "errno", errno: 1 }
const ENOSYS = { kind: "errno", errno: 38 }

const holds = (rule: ArgumentRule, args: readonly number[]) => {
  const value = args[rule.index] ?? 0
  switch (rule.test) {
    case "equal":
      return value === rule.value
    case "above":
      return value > rule.value
    case "none_of":
      return (value & rule.value) === 0
  }
}

const passesWithDocker = (name: string, args: readonly number[]) =>
  DOCKER_DEFAULT_NAMES.has(name) ||
  DOCKER_DEFAULT_CONDITIONS.some(
    (call) =>
      call.name === name &&
      call.when.every((rule) => (rule.test === "not" ? args[rule.index] !== rule.value : holds(rule, args))),
  )

describe("beside Docker's default", () => {
  test("every name is there as well, and the list is much shorter", () => {
    const theirs = new Set([...DOCKER_DEFAULT_NAMES, ...DOCKER_DEFAULT_CONDITIONS.map(({ name }) => name)])
    expect([...everyName()].filter((name) => !theirs.has(name))).toEqual([])
    expect(everyName().size).toBeLessThan(theirs.size * 0.6)
  })

  test("arguments that let a call pass let it pass there, and fewer do", () => {
    // Every value that either side speaks of, its neighbours, and every single bit.
    const spoken = [...CONDITIONAL_CALLS, ...DOCKER_DEFAULT_CONDITIONS].flatMap(({ when }) => when.map(({ value }) => value))
    const bits = Array.from({ length: 32 }, (_, bit) => 2 ** bit)
    const values = [...new Set([...spoken, ...spoken.map((value) => value + 1), ...bits, 0, 3, 5, 38, 0xffffffff])]
    let fewer = 0
    for (const name of new Set(CONDITIONAL_CALLS.map((call) => call.name))) {
      for (const args of values.flatMap((value) => [Array.from({ length: 4 }, () => value), [value, 0, 0, 0]])) {
        const passes = judge(name, ...args).kind === "allow"
        expect(passes && !passesWithDocker(name, args), `${name} ${args.join(" ")}`).toBe(false)
        if (!passes && passesWithDocker(name, args)) fewer++
      }
    }
    expect(fewer).toBeGreaterThan(0)
  })
})

test("at most 200 system calls can be reached, whatever their arguments, and the program agrees with the list", () => {
  const reached: number[] = []
  for (let number = 0; number <= 1023; number++) {
    if (argumentsToTry(number).some((args) => evaluate(program, { number, args }).kind === "allow")) reached.push(number)
  }
  expect(reached).toEqual([...everyName()].map(numbered).toSorted((a, b) => a - b))
  expect(reached.length).toBeLessThanOrEqual(200)
})

/** A call with conditions is reached when some arguments reach it: those of its own rules, and none at all. */
function argumentsToTry(number: number): number[][] {
  const rules = CONDITIONAL_CALLS.filter(({ name }) => numberOf(name) === number)
  return [[], ...rules.map(({ when }) => argumentsOf(when))]
}

function argumentsOf(when: readonly ArgumentRule[]): number[] {
  const args = [0, 0, 0, 0, 0, 0]
  for (const { index, test: kind, value } of when) args[index] = kind === "equal" ? value : 0
  return args
}

test("no name is listed twice, and none in two ways", () => {
  const plain = new Set(allowedNames())
  expect(plain.size).toBe(allowedNames().length)
  expect(CONDITIONAL_CALLS.filter((call) => plain.has(call.name))).toEqual([])
  expect(ABSENT_CALLS.filter((name) => everyName().has(name))).toEqual([])
  expect(new Set(ABSENT_CALLS).size).toBe(ABSENT_CALLS.length)
})

test("what past escapes began with is not reachable", () => {
  const closed = [
    "unshare", "setns", "mount", "umount2", "move_mount", "fsopen", "fsconfig", "fsmount", "fspick", "open_tree", "mount_setattr",
    "pivot_root", "chroot", "bpf", "ptrace", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter",
    "io_uring_register", "io_setup", "io_submit", "add_key", "keyctl", "request_key", "open_by_handle_at", "name_to_handle_at",
    "process_vm_readv", "process_vm_writev", "process_madvise", "pidfd_getfd", "kcmp", "kexec_load", "kexec_file_load",
    "init_module", "finit_module", "delete_module", "clone3", "vmsplice", "modify_ldt", "fanotify_init", "fanotify_mark",
    "quotactl", "syslog", "acct", "swapon", "reboot", "settimeofday", "clock_settime", "clock_adjtime", "adjtimex",
    "personality", "iopl", "ioperm", "mbind", "set_mempolicy", "migrate_pages", "move_pages", "lookup_dcookie",
    "remap_file_pages", "memfd_secret", "pkey_alloc", "mincore", "sync", "syncfs", "preadv2", "msgget", "mq_open",
  ] // prettier-ignore
  expect(closed.filter((name) => judge(name).kind !== "errno")).toEqual([])
})

test("clone passes without namespaces and with none of them; clone3 is as on an old kernel", () => {
  const flags = [0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000]
  expect(flags.reduce((mask, flag) => mask | flag, 0)).toBe(CLONE_NEW_FLAGS)
  const THREAD = 0x003d0f00
  expect(judge("clone", THREAD)).toEqual(ALLOW)
  for (const flag of flags) expect(judge("clone", THREAD | flag)).toEqual(EPERM)
  // CLONE_NEWTIME is a signal number to `clone`, and the upper half of the word counts for nothing.
  expect(judge("clone", 0x80)).toEqual(ALLOW)
  expect(judge("clone3")).toEqual(ENOSYS)
})

test("sockets are Unix, IPv4, IPv6 and route netlink alone", () => {
  const passes = Array.from({ length: 64 }, (_, family) => family).filter(
    (family) => judge("socket", family, 1, 0).kind === "allow",
  )
  expect(passes).toEqual([1, 2, 10, 16])
  const netlinkProtocols = Array.from({ length: 32 }, (_, protocol) => protocol)
  expect(netlinkProtocols.filter((protocol) => judge("socket", 16, 3, protocol).kind === "allow")).toEqual([0])
  for (const family of [0, 17, 40, 2n ** 32n + 1n]) expect(judge("socket", family, 1, 0)).toEqual({ kind: "errno", errno: 97 })
  const AUDIT = 9
  expect(judge("socket", 16, 3, AUDIT)).toEqual({ kind: "errno", errno: 93 })
})

test("a page of a shared image cannot be taken out of memory", () => {
  expect([0, 1, 2, 3, 4, 5].map((advice) => judge("fadvise64", 3, 0, 0, advice).kind)).toEqual([
    "allow",
    "allow",
    "allow",
    "allow",
    "errno",
    "errno",
  ])
})

test("where callers have another way, the call is as on a kernel that has none", () => {
  expect(ABSENT_CALLS.filter((name) => JSON.stringify(judge(name)) !== JSON.stringify(ENOSYS))).toEqual([])
})

test("other entry points are closed: 32-bit ones kill, x32 and unknown numbers do not exist", () => {
  for (const number of [0, 1, 11, 120, 311]) {
    expect(evaluate(program, { number, architecture: AUDIT_ARCH.i386 })).toEqual({ kind: "kill" })
  }
  for (const number of [0, 1, 59, 512, 520, 547]) expect(evaluate(program, { number: 0x40000000 + number })).toEqual(ENOSYS)
  for (const number of [NEWEST_KNOWN_NUMBER + 1, 467, 500, 0x7fffffff, 0xffffffff])
    expect(evaluate(program, { number })).toEqual(ENOSYS)
})

test("the runtime's form names one architecture and answers as the program does", () => {
  const profile = seccompForRuntime("amd64", ["chmod"])
  expect(profile.architectures).toEqual(["SCMP_ARCH_X86_64"])
  expect(profile.syscalls.at(-1)).toEqual({ names: expect.arrayContaining(["clone3"]), action: "SCMP_ACT_ERRNO", errnoRet: 38 })
  expect(profile.syscalls.flatMap(({ names }): readonly string[] => names)).not.toContain("chmod")
})

describe("what a tenant denies", () => {
  test("is refused, conditional calls too, and nothing else changes", () => {
    const filters = new SeccompFilters(dir)
    const narrow = Buffer.from(filters.without(["socket", "chmod", "clone", "mount", "clone3"]).bpf, "base64")
    for (const name of everyName()) {
      const kinds = [program, narrow].map((each) => evaluate(each, { number: numbered(name), args: [1, 1, 0, 1] }).kind)
      if (["socket", "chmod", "clone"].includes(name)) expect(kinds).toEqual(["allow", "errno"])
      else expect(kinds, name).toEqual(["allow", "allow"])
    }
    expect(evaluate(narrow, { number: numbered("clone3") })).toEqual(ENOSYS)
  })

  test("is compiled once for a set of names, in whatever order they come", () => {
    const filters = new SeccompFilters(dir)
    const one = filters.without(["chmod", "socket"])
    expect(filters.without(["socket", "chmod", "socket"])).toBe(one)
    expect(filters.without([]).sha256).not.toBe(one.sha256)
    for (const name of allowedNames()
      .filter((each) => !NEEDED_TO_START.includes(each))
      .slice(0, 80))
      filters.without([name])
    expect(filters.without(["chmod", "socket"])).not.toBe(one) // out of the cache, and the same
    expect(filters.without(["chmod", "socket"])).toEqual(one)
  })

  test.each([
    ["chmodd", "seccomp_call_unknown", "There is no system call “chmodd” to deny."],
    ["execve", "seccomp_call_needed", "The system call “execve” cannot be denied: without it no program starts."],
  ])("is refused when it is %s", (name, code, message) => {
    const thrown = (() => {
      try {
        return new SeccompFilters(dir).without(["chmod", name])
      } catch (error) {
        return error
      }
    })()
    expect(thrown).toMatchObject({ reason: { code, message } })
  })

  test("may be a call of another architecture, which there is none of here", () => {
    expect(new SeccompFilters(dir).without(["fcntl64"])).toEqual({ ...new SeccompFilters(dir).without([]) })
  })
})
