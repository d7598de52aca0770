/** An image's STOPSIGNAL, which may be a name with or without SIG, or a number, as one of the signals that we know. Pure. */
import { SIGNALS } from "../../schema/container.ts"
import type { SignalName } from "../../schema/container.ts"

export function parseStopSignal(text: string): SignalName | null {
  const word = text.trim().toUpperCase()
  for (const [name, number] of Object.entries(SIGNALS)) {
    if (word === name || `SIG${word}` === name || word === String(number)) return name as SignalName
  }
  return null
}
