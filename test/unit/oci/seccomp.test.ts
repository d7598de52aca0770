import { expect, test } from "vitest"
import {
  ABSENT_CALLS,
  allowedNames,
  CLONE_NEW_FLAGS,
  CONDITIONAL_CALLS,
  seccompForRuntime,
} from "../../../node-bridge/oci/seccomp.ts"
import { DOCKER_DEFAULT_NAMES } from "./docker-default-names.ts"

const everyName = () => new Set([...allowedNames(), ...CONDITIONAL_CALLS.map((call) => call.name)])

test("everything allowed is allowed by Docker's default as well, and the list is smaller", () => {
  expect([...everyName()].filter((name) => !DOCKER_DEFAULT_NAMES.has(name))).toEqual([])
  expect(everyName().size).toBeLessThan(DOCKER_DEFAULT_NAMES.size * 0.75)
})

test("no name is listed twice, and none both with and without a condition", () => {
  expect(new Set(allowedNames()).size).toBe(allowedNames().length)
  const plain = new Set(allowedNames())
  expect(CONDITIONAL_CALLS.filter((call) => plain.has(call.name))).toEqual([])
  expect(ABSENT_CALLS.filter((name) => plain.has(name))).toEqual([])
})

test("what past escapes began with is not reachable", () => {
  const names = everyName()
  const closed = [
    "unshare", "setns", "mount", "umount2", "move_mount", "fsopen", "open_tree", "pivot_root", "chroot", "bpf", "ptrace",
    "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter", "add_key", "keyctl", "request_key",
    "open_by_handle_at", "name_to_handle_at", "process_vm_readv", "process_vm_writev", "kcmp", "kexec_load", "init_module",
    "clone3", "vmsplice", "modify_ldt", "fanotify_mark", "quotactl", "syslog",
  ] // prettier-ignore
  expect(closed.filter((name) => names.has(name))).toEqual([])
})

test("clone may not ask for any namespace", () => {
  const namespaceFlags = [0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000]
  expect(namespaceFlags.reduce((mask, flag) => mask | flag, 0)).toBe(CLONE_NEW_FLAGS)
  expect(CONDITIONAL_CALLS.find((call) => call.name === "clone")?.when).toEqual([
    { index: 0, test: "none_of", value: CLONE_NEW_FLAGS },
  ])
})

test("sockets are Unix, IPv4, IPv6 and route netlink alone", () => {
  const families = CONDITIONAL_CALLS.filter((call) => call.name === "socket").map((call) => call.when.map((rule) => rule.value))
  expect(families).toEqual([[1], [2], [10], [16, 0]])
})

test("the runtime's form names one architecture and answers ENOSYS for clone3", () => {
  const profile = seccompForRuntime("amd64")
  expect(profile.architectures).toEqual(["SCMP_ARCH_X86_64"])
  expect(profile.syscalls.at(-1)).toEqual({ names: ["clone3"], action: "SCMP_ACT_ERRNO", errnoRet: 38 })
})
