/**
 * Adds and deletes elements of nftables sets in one transaction, over nfnetlink (linux/netfilter/nf_tables.h): some 0.1 ms
 * where spawning `nft` takes 5. All of a batch comes true, or nothing.
 */
import { SystemCallError } from "../native/libc.ts"
import type { Element, Field } from "./elements.ts"
import * as netlink from "./netlink.ts"
import { attribute, nested, text, u32 } from "./netlink.ts"

const NETLINK_NETFILTER = 12
const NFNL_SUBSYS_NFTABLES = 10
const NFNL_MSG_BATCH_BEGIN = 16
const NFNL_MSG_BATCH_END = 17
const NFT_MSG_GETTABLE = 1
const NFT_MSG_NEWSETELEM = 12
const NFT_MSG_DELSETELEM = 14
const NFPROTO_INET = 1
const NFTA_TABLE_NAME = 1
const NFTA_SET_ELEM_LIST_TABLE = 1
const NFTA_SET_ELEM_LIST_SET = 2
const NFTA_SET_ELEM_LIST_ELEMENTS = 3
const NFTA_LIST_ELEM = 1
const NFTA_SET_ELEM_KEY = 1
const NFTA_SET_ELEM_DATA = 2
const NFTA_SET_ELEM_KEY_END = 10
const NFTA_DATA_VALUE = 1

/** struct nfgenmsg; the resource id is in network order. */
function header(family: number, resource: number): Buffer {
  const buffer = Buffer.alloc(4)
  buffer.writeUInt8(family, 0)
  buffer.writeUInt16BE(resource, 2)
  return buffer
}

function addressBytes(address: number): Buffer {
  const buffer = Buffer.alloc(4)
  buffer.writeUInt32BE(address)
  return buffer
}

function fieldBytes(field: Field, end: "first" | "last"): Buffer {
  switch (field.kind) {
    case "address":
      return addressBytes(field.value)
    case "range":
      return addressBytes(field.value[end])
    case "mark":
      return u32(field.value)
  }
}

const value = (type: number, ...bytes: Buffer[]) => nested(type, attribute(NFTA_DATA_VALUE, ...bytes))

function encode({ key, data }: Element): Buffer {
  const parts = [value(NFTA_SET_ELEM_KEY, ...key.map((field) => fieldBytes(field, "first")))]
  if (key.some(({ kind }) => kind === "range")) {
    parts.push(value(NFTA_SET_ELEM_KEY_END, ...key.map((field) => fieldBytes(field, "last"))))
  }
  if (data !== undefined) parts.push(value(NFTA_SET_ELEM_DATA, fieldBytes(data, "first")))
  return nested(NFTA_LIST_ELEM, ...parts)
}

export class FilterSocket {
  readonly #socket = new netlink.NetlinkSocket(NETLINK_NETFILTER)
  #sequence = 0

  close(): void {
    this.#socket.close()
  }

  /** `SystemCallError` when the kernel refused it: ENOENT for a table, set or element that is not there. */
  change(table: string, gone: readonly Element[], added: readonly Element[]): void {
    const changes = [
      ...gone.map((element) => ({ element, type: NFT_MSG_DELSETELEM, flags: 0 })),
      ...added.map((element) => ({ element, type: NFT_MSG_NEWSETELEM, flags: netlink.NLM_F_CREATE })),
    ]
    if (changes.length === 0) return
    const frame = (type: number) => netlink.message(type, 0, ++this.#sequence, header(0, NFNL_SUBSYS_NFTABLES))
    const begin = frame(NFNL_MSG_BATCH_BEGIN)
    const messages = changes.map(({ element, type, flags }, index) => {
      const ack = index === changes.length - 1 ? netlink.NLM_F_ACK : 0
      return netlink.message(
        (NFNL_SUBSYS_NFTABLES << 8) | type,
        flags | ack,
        ++this.#sequence,
        header(NFPROTO_INET, 0),
        attribute(NFTA_SET_ELEM_LIST_TABLE, text(table)),
        attribute(NFTA_SET_ELEM_LIST_SET, text(element.set)),
        nested(NFTA_SET_ELEM_LIST_ELEMENTS, encode(element)),
      )
    })
    const answers = this.#socket.ask(begin, ...messages, frame(NFNL_MSG_BATCH_END))
    const refusal = answers.find(({ errno }) => errno !== 0)
    if (refusal !== undefined) throw new SystemCallError(`change table ${table}`, refusal.errno)
    if (answers.length === 0) throw new Error(`change table ${table}: no answer`)
  }

  hasTable(table: string): boolean {
    const type = (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETTABLE
    const name = attribute(NFTA_TABLE_NAME, text(table))
    const answers = this.#socket.ask(netlink.message(type, netlink.NLM_F_ACK, ++this.#sequence, header(NFPROTO_INET, 0), name))
    return answers.every(({ errno }) => errno === 0)
  }
}
