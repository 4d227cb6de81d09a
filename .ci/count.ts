import { readFileSync } from 'node:fs'

const [report = '', failedBefore = '1'] = process.argv.slice(2)

type Report = { numPassedTests: number; numFailedTests: number; success: boolean }

/** The counts of a run; a report that is not there counts as one failure. */
function read(): Report {
  try {
    return JSON.parse(readFileSync(report, 'utf8')) as Report
  } catch {
    return { numPassedTests: 0, numFailedTests: 1, success: false }
  }
}

const { numPassedTests: passed, numFailedTests, success } = read()
const bad = failedBefore !== '0' || !success || passed === 0
// A failure outside the tests (types, a leaked server, a suite that did not load) counts as one.
const failed = Math.max(numFailedTests, bad ? 1 : 0)
process.stdout.write(`${passed} passed, ${failed} failed\n`)
process.exit(bad ? 1 : 0)
