// A server and its client, a child process, a worker thread, the thread pool, names.
const { execFileSync } = require("node:child_process")
const crypto = require("node:crypto")
const dns = require("node:dns")
const fs = require("node:fs")
const http = require("node:http")
const { Worker } = require("node:worker_threads")

const server = http
  .createServer((_request, response) => response.end("ok"))
  .listen(0, "127.0.0.1", async () => {
    const answer = await fetch(`http://127.0.0.1:${server.address().port}/`)
    if ((await answer.text()) !== "ok") throw new Error("http")
    server.closeAllConnections()
    server.close()
    if (execFileSync("echo", ["child"]).toString() !== "child\n") throw new Error("child")
    fs.watch("/tmp", () => {}).close()
    fs.copyFileSync("/etc/passwd", "/tmp/copied")
    fs.utimesSync("/tmp/copied", 1, 1)
    const code = "require('node:worker_threads').parentPort.postMessage('worker')"
    await new Promise((resolve) => new Worker(code, { eval: true }).on("message", resolve))
    await new Promise((resolve) => crypto.pbkdf2("a", "b", 1000, 32, "sha256", resolve))
    await dns.promises.lookup("localhost")
    console.log("all well")
  })
