/**
 * A client under steady light load: `node steady-client.ts PORT PER_SECOND SECONDS`, in the network namespace of what it asks.
 * Each request is sent at its own moment, whether the one before was answered or not: a server that stalls is seen as slow by
 * all that came meanwhile. Prints the latencies in milliseconds as JSON.
 */
import { connect } from "node:net"

const [port = 0, perSecond = 0, seconds = 0] = process.argv.slice(2).map(Number)
const REQUEST = "GET / HTTP/1.0\r\n\r\n"
const LONGEST_MS = 5_000

/** From its moment to the last byte of the answer; what failed or took too long counts as the longest. */
function latencyOf(momentMs: number): Promise<number> {
  const { promise, resolve } = Promise.withResolvers<number>()
  const socket = connect(port, "127.0.0.1")
  let received = ""
  socket.setEncoding("latin1").setTimeout(LONGEST_MS, () => socket.destroy())
  socket.on("connect", () => socket.write(REQUEST))
  socket.on("data", (text: string) => (received += text))
  socket.on("error", () => {})
  socket.on("close", () => resolve(received.includes(" 200 OK") ? performance.now() - momentMs : LONGEST_MS))
  return promise
}

const began = performance.now()
const asked: Promise<number>[] = []
const total = perSecond * seconds
const ask = () => {
  while (asked.length < total && performance.now() >= began + (asked.length * 1_000) / perSecond) {
    asked.push(latencyOf(performance.now()))
  }
  if (asked.length < total) setTimeout(ask, 1)
}
ask()
const poll = setInterval(() => {
  if (asked.length < total) return
  clearInterval(poll)
  void Promise.all(asked).then((latencies) => process.stdout.write(JSON.stringify(latencies)))
}, 20)
