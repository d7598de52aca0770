/** The three files under `/etc` that the platform writes for a container. Pure: text in, text out. */

export interface EtcInput {
  readonly hostname: string
  readonly address: string | null
  readonly nameservers: readonly string[]
}

export function etcFiles({ hostname, address, nameservers }: EtcInput): Record<"hosts" | "hostname" | "resolv.conf", string> {
  const own = address === null ? `127.0.0.1\t${hostname}\n` : `${address}\t${hostname}\n`
  return {
    hosts: `127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n${own}`,
    hostname: `${hostname}\n`,
    "resolv.conf": nameservers.map((server) => `nameserver ${server}\n`).join(""),
  }
}
