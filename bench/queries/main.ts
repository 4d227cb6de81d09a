// npm run bench:queries -- [--accounts N] [--asked N]
import { parseArgs } from 'node:util'
import { BenchError } from '../errors.ts'
import { type HttpAnswer, HttpConnection } from '../http-connection.ts'
import { describeMachine, loadPerMinute } from '../machine.ts'
import { openProgress, type Progress } from '../progress.ts'
import { percentile } from '../rounds.ts'
import { type RunningService, startServers } from '../servers.ts'
import { fillReadTables } from './fill.ts'
import { type Question, questions } from './questions.ts'
import { linesPerAccount } from './tables.ts'

// Read tables are filled by SQL, without events: a million accounts, five million lines. Then the real
// query-api, which projects nothing, is asked each kind of question over and over.

type Measured = {
  question: Question
  p50Ms: number
  p99Ms: number
  worstMs: number
  /** What is wrong with its answers, where something is. */
  problem?: string
}

const connections = 4
const warmUp = 40

async function measure(
  { accounts, asked }: { accounts: number; asked: number },
  progress: Progress,
): Promise<Measured[]> {
  await using servers = await startServers(progress, { withKafka: false })
  const databases = await servers.databases('bench_queries')
  await fillReadTables(databases.read(), accounts, progress)
  await servers.checkpoint()
  const service = await servers.service(databases, {
    name: 'query-api',
    label: 'query-api',
    // There is nothing to consume.
    env: { PROJECTIONS: 'none', KAFKA_BROKERS: '127.0.0.1:9', COMMAND_API_URL: '', RELAY_URL: '' },
  })
  const measured: Measured[] = []
  try {
    for (const question of questions(accounts)) {
      progress.step(question.name)
      measured.push(await measureOne(question, asking(service, servers.accessKey), asked))
    }
  } finally {
    await service.stop()
  }
  const { cores, processor } = describeMachine({ ...servers.versions, kafka: 'none' })
  process.stdout.write(
    `${cores} cores (${processor}), PostgreSQL ${servers.versions.postgres}; ` +
      `${accounts} accounts, ${accounts * linesPerAccount} lines; ${connections} connections, ` +
      `${asked} times each; load ${loadPerMinute()}\n\n`,
  )
  return measured
}

/** How long each answer took, in milliseconds, and how many found something. */
type Asked = { latencies: number[]; shown: number }
type Ask = (question: Question, times: number) => Promise<Asked>

async function measureOne(question: Question, ask: Ask, asked: number): Promise<Measured> {
  try {
    await ask(question, warmUp)
    const { latencies, shown } = await ask(question, asked)
    if (shown === 0) throw new BenchError('violation', `no page has ${question.shows}`)
    const sorted = latencies.toSorted((one, other) => one - other)
    const [p50Ms, p99Ms] = [percentile(sorted, 0.5), percentile(sorted, 0.99)]
    return { question, p50Ms, p99Ms, worstMs: sorted.at(-1) ?? Number.NaN }
  } catch (error) {
    if (!(error instanceof BenchError) || error.code !== 'violation') throw error
    const [p50Ms, p99Ms, worstMs] = [Number.NaN, Number.NaN, Number.NaN]
    return { question, p50Ms, p99Ms, worstMs, problem: error.message }
  }
}

/** Asks so many times, over all connections. */
function asking({ port }: RunningService, accessKey: string): Ask {
  return async (question, times) => {
    const { accept = 'application/json', pages } = question
    const headers = `Authorization: Bearer ${accessKey}\r\nAccept: ${accept}\r\n`
    const latencies: number[] = []
    let sent = 0
    let shown = 0
    const drive = async () => {
      using connection = await HttpConnection.open(port)
      let next: string | undefined
      while (sent < times) {
        const path = behind(question.path(sent++), next)
        const sentMs = performance.now()
        const answer = await connection.send({ method: 'GET', path, headers })
        latencies.push(performance.now() - sentMs)
        const shows = answer.body.includes(question.shows)
        if (shows) shown += 1
        if (answer.status !== 200 || (!shows && pages !== true))
          throw unlike(question, path, answer)
        if (pages === true) next = /"next":"([^"]+)"/.exec(answer.body)?.[1]
      }
    }
    await Promise.all(Array.from({ length: connections }, drive))
    return { latencies, shown }
  }
}

function behind(path: string, cursor: string | undefined): string {
  if (cursor === undefined) return path
  return `${path}${path.includes('?') ? '&' : '?'}cursor=${cursor}`
}

function unlike({ shows }: Question, path: string, { status, body }: HttpAnswer): BenchError {
  const begins = body.slice(0, 120).replaceAll(/\s+/g, ' ')
  return new BenchError('violation', `${path} answers ${status} without ${shows}: ${begins}`)
}

/** Gives whether every kind of question was answered, and in time. */
function report(measured: readonly Measured[]): boolean {
  const width = Math.max(...measured.map(({ question }) => question.name.length))
  const line = (cells: readonly string[]) =>
    cells.map((cell, at) => (at === 0 ? cell.padEnd(width) : cell.padStart(9))).join(' ')
  const failed = ({ question, p99Ms }: Measured) => !(p99Ms < question.targetMs)
  process.stdout.write(`${line(['question', 'p50 ms', 'p99 ms', 'max ms', 'target'])}\n`)
  for (const one of measured) {
    const { question, p50Ms, p99Ms, worstMs, problem } = one
    const figures = [p50Ms, p99Ms, worstMs].map((ms) => (Number.isNaN(ms) ? '-' : ms.toFixed(1)))
    const verdict = failed(one) ? 'FAILED' : 'ok'
    const cells = [question.name, ...figures, String(question.targetMs)]
    process.stdout.write(`${line(cells)} ${verdict}\n`)
    if (problem !== undefined) process.stdout.write(`  ${problem}\n`)
  }
  const count = measured.filter(failed).length
  process.stdout.write(
    count === 0 ? '\nall within their targets\n' : `\nFAILED: ${count} of ${measured.length}\n`,
  )
  return count === 0
}

function sizesOf(args: string[]) {
  const { accounts, asked } = parseArgs({
    args,
    options: {
      accounts: { type: 'string', default: '1000000' },
      asked: { type: 'string', default: '1000' },
    },
  }).values
  return { accounts: Number(accounts), asked: Number(asked) }
}

try {
  const write = (text: string) => void process.stderr.write(text)
  const progress = openProgress(() => performance.now(), write)
  if (!report(await measure(sizesOf(process.argv.slice(2)), progress))) process.exitCode = 1
} catch (error) {
  if (!(error instanceof BenchError)) throw error
  process.stderr.write(`${error.code}: ${error.message}\n`)
  process.exitCode = 1
}
