/** Debian's order of package versions: `[epoch:]upstream[-revision]`, as deb-version(7) has it. Pure. */

/** Negative when `a` is earlier, 0 when they are the same, positive when it is later. */
export function compareDebianVersions(a: string, b: string): number {
  const [one, other] = [parse(a), parse(b)]
  return one.epoch - other.epoch || compareParts(one.upstream, other.upstream) || compareParts(one.revision, other.revision)
}

/** The epoch ends at the first colon, the revision begins after the last hyphen; both are 0 when absent. */
function parse(text: string) {
  const [, epoch = "0", rest = ""] = /^(?:(\d+):)?([^]*)$/.exec(text) ?? []
  const hyphen = rest.lastIndexOf("-")
  return hyphen === -1
    ? { epoch: Number(epoch), upstream: rest, revision: "0" }
    : { epoch: Number(epoch), upstream: rest.slice(0, hyphen), revision: rest.slice(hyphen + 1) }
}

/** Stretches of other characters and stretches of digits in turn, from the left, until two differ. */
function compareParts(a: string, b: string): number {
  const [some, others] = [stretches(a), stretches(b)]
  for (let at = 0; at < Math.max(some.length, others.length); at++) {
    const [x, y] = [some[at] ?? ["", ""], others[at] ?? ["", ""]]
    const difference = compareText(x[0], y[0]) || compareDigits(x[1], y[1])
    if (difference !== 0) return difference
  }
  return 0
}

const stretches = (text: string): (readonly [string, string])[] =>
  [...text.matchAll(/(\D*)(\d*)/g)].map(([, words = "", digits = ""]) => [words, digits])

/** A tilde sorts before everything, even the end; letters before all else. */
function compareText(a: string, b: string): number {
  for (let at = 0; at < Math.max(a.length, b.length); at++) {
    const difference = weight(a[at]) - weight(b[at])
    if (difference !== 0) return difference
  }
  return 0
}

function weight(character: string | undefined): number {
  if (character === undefined) return 0
  if (character === "~") return -1
  return /[A-Za-z]/.test(character) ? character.charCodeAt(0) : character.charCodeAt(0) + 256
}

/** By value; dates and hashes in versions are longer than numbers are exact. */
function compareDigits(a: string, b: string): number {
  const [x, y] = [a.replace(/^0+/, ""), b.replace(/^0+/, "")]
  if (x.length !== y.length) return x.length - y.length
  if (x === y) return 0
  return x < y ? -1 : 1
}
