/**
 * Who a container runs as, from `user[:group]` and the image's own passwd(5) and group(5). Pure: the files come as text,
 * read by the caller without leaving the image. Follows what Docker does with the same input.
 */
import { err, ok } from "../../schema/errors.ts"
import type { Result } from "../../schema/errors.ts"
import type { Reason } from "../../schema/protocol.ts"

export interface ResolvedUser {
  readonly uid: number
  readonly gid: number
  readonly additionalGids: readonly number[]
  readonly home: string
}

/** Container ids end where the tenant's range does. */
export const ID_LIMIT = 65_536
/** The kernel's NGROUPS_MAX is 65,536; an image that lists a user in more groups than this is not one to follow. */
const MAX_ADDITIONAL_GROUPS = 1024

interface PasswdLine {
  readonly name: string
  readonly uid: number
  readonly gid: number
  readonly home: string
}

interface GroupLine {
  readonly name: string
  readonly gid: number
  readonly members: readonly string[]
}

export function resolveUser(asked: string, passwd: string, group: string): Result<ResolvedUser, Reason> {
  const [userText = "", groupText] = asked.split(":", 2)
  const users = parsePasswd(passwd)
  const groups = parseGroup(group)

  const named = userText === "" ? users.find((line) => line.uid === 0) : users.find((line) => line.name === userText)
  const number = userText === "" ? 0 : parseId(userText)
  const entry = named ?? users.find((line) => line.uid === number)
  const uid = named?.uid ?? number
  if (uid === null) return err({ code: "user_not_found", message: `The image has no user “${userText}”.` })

  let gid = entry?.gid ?? 0
  let additionalGids: number[] = []
  if (groupText !== undefined && groupText !== "") {
    const found = groups.find((line) => line.name === groupText)?.gid ?? parseId(groupText)
    if (found === null) return err({ code: "user_not_found", message: `The image has no group “${groupText}”.` })
    gid = found
  } else if (entry !== undefined) {
    const memberOf = groups.filter((line) => line.members.includes(entry.name)).map((line) => line.gid)
    additionalGids = [...new Set(memberOf)].slice(0, MAX_ADDITIONAL_GROUPS)
  }

  const tooHigh = [uid, gid, ...additionalGids].find((id) => id >= ID_LIMIT)
  if (tooHigh !== undefined) {
    return err({ code: "user_out_of_range", message: `User and group ids must be below ${ID_LIMIT}; this needs ${tooHigh}.` })
  }
  return ok({ uid, gid, additionalGids, home: entry?.home.startsWith("/") ? entry.home : "/" })
}

function parseId(text: string): number | null {
  return /^[0-9]{1,10}$/.test(text) ? Number(text) : null
}

function parsePasswd(text: string): PasswdLine[] {
  return text.split("\n").flatMap((line) => {
    const [name = "", , uidText = "", gidText = "", , home = ""] = line.split(":")
    const uid = parseId(uidText)
    const gid = parseId(gidText)
    return name === "" || name.startsWith("#") || uid === null || gid === null ? [] : [{ name, uid, gid, home }]
  })
}

function parseGroup(text: string): GroupLine[] {
  return text.split("\n").flatMap((line) => {
    const [name = "", , gidText = "", members = ""] = line.split(":")
    const gid = parseId(gidText)
    return name === "" || name.startsWith("#") || gid === null ? [] : [{ name, gid, members: members.split(",") }]
  })
}
