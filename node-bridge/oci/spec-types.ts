/**
 * The part of `config.json` that Berth writes. Names and meaning are those of the OCI runtime specification 1.0:
 * https://github.com/opencontainers/runtime-spec/blob/v1.0.2/config.md and config-linux.md.
 */

export interface OciMount {
  readonly destination: string
  readonly type: string
  readonly source: string
  readonly options: readonly string[]
}

export interface OciNamespace {
  readonly type: "pid" | "network" | "ipc" | "uts" | "mount" | "cgroup" | "user"
  readonly path?: string
}

export interface OciIdMapping {
  readonly containerID: number
  readonly hostID: number
  readonly size: number
}

export interface OciCapabilities {
  readonly bounding: readonly string[]
  readonly effective: readonly string[]
  readonly permitted: readonly string[]
  readonly inheritable: readonly string[]
  readonly ambient: readonly string[]
}

export interface OciProcess {
  readonly terminal: boolean
  readonly user: {
    readonly uid: number
    readonly gid: number
    readonly additionalGids: readonly number[]
    readonly umask: number
  }
  readonly args: readonly string[]
  readonly env: readonly string[]
  readonly cwd: string
  readonly capabilities: OciCapabilities
  readonly rlimits: readonly { readonly type: string; readonly soft: number; readonly hard: number }[]
  readonly noNewPrivileges: true
  readonly oomScoreAdj: number
}

export interface OciDeviceRule {
  readonly allow: boolean
  /** Absent: every type and number. */
  readonly type?: "b" | "c"
  readonly major?: number
  readonly minor?: number
  readonly access: string
}

export interface OciResources {
  readonly devices: readonly OciDeviceRule[]
  readonly memory: { readonly limit: number; readonly swap: number }
  readonly cpu: { readonly quota: number; readonly period: number; readonly shares: number }
  readonly pids: { readonly limit: number }
}

export interface OciSpec {
  readonly ociVersion: "1.0.2"
  readonly process: OciProcess
  readonly root: { readonly path: string; readonly readonly: boolean }
  readonly hostname: string
  readonly mounts: readonly OciMount[]
  readonly annotations?: Readonly<Record<string, string>>
  readonly linux: {
    readonly namespaces: readonly OciNamespace[]
    readonly uidMappings?: readonly OciIdMapping[]
    readonly gidMappings?: readonly OciIdMapping[]
    readonly resources: OciResources
    readonly cgroupsPath: string
    readonly maskedPaths: readonly string[]
    readonly readonlyPaths: readonly string[]
    readonly rootfsPropagation: "private"
    readonly seccomp?: object
  }
}
