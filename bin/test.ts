/**
 * `npm test`: checks that the machine has what the tests need, runs every project, and ends with one plain line. A test that
 * was skipped counts as one, so nothing can be hidden; only what needs a GPU may be.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { spawnSync } from "node:child_process"
import { tmpdir } from "node:os"
import { join } from "node:path"

const scratch = mkdtempSync(join(tmpdir(), "berth-test-"))
const report = join(scratch, "report.json")
const { status } = spawnSync(
  "vitest",
  ["run", "--reporter=default", "--reporter=json", `--outputFile.json=${report}`, ...process.argv.slice(2)],
  {
    stdio: "inherit",
  },
)

interface Report {
  numPassedTests: number
  numFailedTests: number
  numPendingTests: number
  numTodoTests: number
  numFailedTestSuites: number
  testResults: { status: string; name: string; message: string; assertionResults: unknown[] }[]
}
let code = status ?? 1
try {
  const { numPassedTests, numFailedTests, numPendingTests, numTodoTests, testResults } = JSON.parse(
    readFileSync(report, "utf8"),
  ) as Report
  // A file that failed before its first test has no failed test to count.
  const brokenFiles = testResults.filter((file) => file.status === "failed" && file.assertionResults.length === 0).length
  const failed = numFailedTests + brokenFiles
  if (numPassedTests === 0 || failed > 0) code ||= 1
  console.log(`${numPassedTests} passed, ${failed} failed, ${numPendingTests + numTodoTests} skipped`)
} catch {
  console.log("0 passed, 1 failed, 0 skipped")
  code ||= 1
}
rmSync(scratch, { recursive: true, force: true })
process.exitCode = code
