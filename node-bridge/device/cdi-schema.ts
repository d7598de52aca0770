/**
 * What a CDI specification file may say, version 0.3 to 1.1 of the Container Device Interface:
 * https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md. As there, a field that nobody knows makes the
 * file invalid. Narrower than there, by name: what this node cannot do for a container that shares its host.
 */
import { z } from "zod"
import { DeviceKind } from "../../schema/container.ts"

const MAX_TEXT = 4096
/** More than any vendor's file was seen to have; the largest has some hundred mounts. */
const MAX_ENTRIES = 1024

const text = z
  .string()
  .max(MAX_TEXT)
  .refine((value) => !value.includes("\0"), "must not contain a NUL character")
/** Absolute and without a step up: what it names is read off it. */
const path = text
  .startsWith("/", "must be an absolute path")
  .refine((value) => !value.split("/").includes(".."), "must not climb")
const list = <T extends z.ZodType>(of: T) =>
  z
    .array(of)
    .max(MAX_ENTRIES)
    .nullish()
    .transform((value) => value ?? [])
const env = list(text.regex(/^[^=]+=/, "must be NAME=value"))
const id = z.int().min(0).max(0xffff_fffe)

const DeviceNode = z.strictObject({
  path,
  hostPath: path.optional(),
  type: z.enum(["", "b", "c", "u", "p"]).optional(),
  major: z.int().min(0).max(0xfff).optional(), // the kernel's 12 bits
  minor: z.int().min(0).max(0xf_ffff).optional(), // and its 20
  fileMode: z.int().min(0).max(0o7777).optional(),
  permissions: z
    .string()
    .regex(/^([rwm]{0,3}|none)$/, "must be some of r, w and m, or none")
    .optional(),
  uid: id.optional(),
  gid: id.optional(),
})
export type DeviceNode = z.infer<typeof DeviceNode>

const Mount = z.strictObject({ hostPath: path, containerPath: path, options: list(text), type: text.optional() })
export type Mount = z.infer<typeof Mount>

export const HOOK_NAMES = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] as const
const Hook = z.strictObject({
  hookName: z.enum(HOOK_NAMES),
  path,
  args: list(text),
  env,
  /** Seconds. */
  timeout: z.int().min(1).nullish(),
})
export type Hook = z.infer<typeof Hook>

export const ContainerEdits = z.strictObject({
  env,
  deviceNodes: list(DeviceNode),
  netDevices: list(z.looseObject({})),
  hooks: list(Hook),
  mounts: list(Mount),
  intelRdt: z.looseObject({}).nullish(),
  additionalGids: list(id),
})
export type ContainerEdits = z.infer<typeof ContainerEdits>

const Annotations = z
  .record(z.string(), z.string())
  .nullish()
  .transform((value) => value ?? {})

export const CdiSpec = z.strictObject({
  cdiVersion: z.string().regex(/^v?(0\.[1-8]\.0|1\.[01]\.0)$/, "is not a version of the format that this node knows"),
  kind: DeviceKind,
  annotations: Annotations,
  devices: z
    .array(
      z.strictObject({
        name: z
          .string()
          .max(128)
          .regex(/^[A-Za-z0-9](?:[A-Za-z0-9_.:-]*[A-Za-z0-9])?$/, "is not a device's name"),
        annotations: Annotations,
        containerEdits: ContainerEdits,
      }),
    )
    .min(1)
    .max(MAX_ENTRIES),
  containerEdits: ContainerEdits.prefault({}),
})
export type CdiSpec = z.infer<typeof CdiSpec>

/** The version of the format that has everything which the file uses; as SPEC.md's table of releases tells it. */
export function requiredVersion(spec: CdiSpec): string {
  const all = [spec.containerEdits, ...spec.devices.map(({ containerEdits }) => containerEdits)]
  if (all.some(({ netDevices }) => netDevices.length > 0)) return "1.1.0"
  if (all.some(({ intelRdt, additionalGids }) => intelRdt != null || additionalGids.length > 0)) return "0.7.0"
  const noted = [spec, ...spec.devices].some(({ annotations }) => Object.keys(annotations).length > 0)
  if (noted || (spec.kind.split("/")[1] ?? "").includes(".")) return "0.6.0"
  if (all.some(({ deviceNodes }) => deviceNodes.some(({ hostPath }) => hostPath !== undefined))) return "0.5.0"
  if (spec.devices.some(({ name }) => /^\d/.test(name))) return "0.5.0"
  return all.some(({ mounts }) => mounts.some(({ type }) => type !== undefined && type !== "")) ? "0.4.0" : "0.3.0"
}
