// npm run bench:queries -- [--accounts N] [--asked N]
import { parseArgs } from 'node:util'
import { BenchError, mustEqual } from '../errors.ts'
import { HttpConnection } from '../http-connection.ts'
import { describeMachine, loadPerMinute } from '../machine.ts'
import { openProgress, type Progress } from '../progress.ts'
import { percentile } from '../rounds.ts'
import { type RunningService, startServers } from '../servers.ts'
import { fillReadTables, linesPerAccount } from './fill.ts'
import { type Question, questions } from './questions.ts'

// Read tables are filled by SQL, without events: a million accounts, five million lines. Then the real
// query-api, which projects nothing, is asked each kind of question over and over.

type Measured = { question: Question; p50Ms: number; p99Ms: number; worstMs: number }

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
      const ask = asking(service, servers.accessKey, question)
      await ask(warmUp)
      const sorted = (await ask(asked)).toSorted((one, other) => one - other)
      const [p50Ms, p99Ms] = [percentile(sorted, 0.5), percentile(sorted, 0.99)]
      measured.push({ question, p50Ms, p99Ms, worstMs: sorted.at(-1) ?? Number.NaN })
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

/** Asks so many times, over all connections; how long each answer took, in milliseconds. */
function asking({ port }: RunningService, accessKey: string, question: Question) {
  const headers = `Authorization: Bearer ${accessKey}\r\n`
  return async (times: number): Promise<number[]> => {
    const latencies: number[] = []
    let sent = 0
    const drive = async () => {
      using connection = await HttpConnection.open(port)
      while (sent < times) {
        const path = question.path(sent++)
        const sentMs = performance.now()
        const { status, body } = await connection.send({ method: 'GET', path, headers })
        latencies.push(performance.now() - sentMs)
        mustEqual(`the status of ${path} (${body.slice(0, 200)})`, status, 200)
        if (question.finds === false) continue
        mustEqual(`${path} finds something`, String(!body.startsWith('{"items":[]')), 'true')
      }
    }
    await Promise.all(Array.from({ length: connections }, drive))
    return latencies
  }
}

function report(measured: readonly Measured[]): boolean {
  const width = Math.max(...measured.map(({ question }) => question.name.length))
  const line = (cells: readonly string[]) =>
    cells.map((cell, at) => (at === 0 ? cell.padEnd(width) : cell.padStart(9))).join(' ')
  process.stdout.write(`${line(['question', 'p50 ms', 'p99 ms', 'max ms', 'target'])}\n`)
  for (const { question, p50Ms, p99Ms, worstMs } of measured) {
    const figures = [p50Ms, p99Ms, worstMs].map((ms) => ms.toFixed(1))
    const verdict = p99Ms < question.targetMs ? 'ok' : 'ABOVE'
    process.stdout.write(
      `${line([question.name, ...figures, `${question.targetMs} ${verdict}`])}\n`,
    )
  }
  return measured.every(({ question, p99Ms }) => p99Ms < question.targetMs)
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
