import { flowOf } from './flow.ts'
import { mustEqual } from './errors.ts'
import { figure, type Figure } from './figures.ts'
import { eventsPerAccount } from './outbox-fill.ts'
import type { Progress } from './progress.ts'
import { rotated, Samples } from './rounds.ts'
import { connect, type Databases, type Servers } from './servers.ts'
import { newTopic, recordsIn } from './topic-check.ts'
import { runWorker } from './worker.ts'

// Part b: the real query-api process projects a full topic into an empty read database, one projection
// after another, and beside each the same rows are written from memory, without Kafka.

export type CatchUpOptions = {
  servers: Servers
  databases: Databases
  events: number
  rounds: number
  progress: Progress
}

type Target = {
  projection: string
  /** The worker that writes the same rows. */
  raw: string
  rawName: string
  atLeast: number
  tables: readonly string[]
  /** Asks for `all` rows that there are, and those that are `right`. */
  check: { text: string; rowsPerAccount: number }
}

const lastBalance = (eventsPerAccount - 1) * 100
const atLastEvent = `version = ${eventsPerAccount}`

export const targets: readonly Target[] = [
  {
    projection: 'accounts',
    raw: './raw-upserts.ts',
    rawName: 'the same upserts raw',
    atLeast: 45_000,
    tables: ['read.accounts'],
    check: {
      text: `select count(*)::int as all, count(*) filter (
          where ${atLastEvent} and ledger_balance = ${lastBalance})::int as right
        from read.accounts`,
      rowsPerAccount: 1,
    },
  },
  {
    projection: 'statements',
    raw: './raw-lines.ts',
    rawName: 'the same lines raw',
    atLeast: 25_000,
    tables: ['read.statement_lines', 'read.statement_shifts', 'read.statements_heads'],
    check: {
      text: `select count(*)::int as all, count(*) filter (
          where l.balance = (l.version - 1) * 100 and h.${atLastEvent})::int as right
        from read.statement_lines l join read.statements_heads h using (account_id)`,
      rowsPerAccount: eventsPerAccount - 1,
    },
  },
]

/** Throws `violation`. */
export async function measureCatchUp(options: CatchUpOptions): Promise<Figure[]> {
  await fillTopic(options)
  const figures: Figure[] = []
  for (const target of targets) figures.push(await measureOne(options, target))
  return figures
}

async function measureOne(options: CatchUpOptions, target: Target): Promise<Figure> {
  const { servers, events, rounds, databases } = options
  const samples = new Samples()
  const variants = [
    () => projectOnce(options, target, samples),
    () => writeOnce(options, target, samples),
  ]
  for (let round = 0; round < rounds; round += 1) {
    for (const run of rotated(variants, round)) {
      await emptyReadSide(databases, target)
      await servers.checkpoint()
      await run()
      await checkRows(databases, target, events / eventsPerAccount)
    }
  }
  return figure({
    part: 'b',
    name: `projection into ${target.projection}`,
    unit: 'events/s',
    rounds: samples.of('projection'),
    baseline: { name: target.rawName, rounds: samples.of('raw') },
    targets: [{ of: 'value', atLeast: target.atLeast }],
    note: `query-api ${samples.median('cores').toFixed(2)} cores`,
  })
}

/** Part a leaves the topic full; without it, it is filled here. */
async function fillTopic({ servers, databases, events, progress }: CatchUpOptions): Promise<void> {
  const { brokers } = servers
  const topic = 'account-events'
  if ((await recordsIn(brokers, topic)) === events) return // Repeats would be counted as events.
  progress.step(`publishing ${events} events`)
  await newTopic(brokers, topic)
  await runWorker({
    file: './produce-only.ts',
    input: { brokers, url: databases.write('sluice_relay'), topic, producer: 'kafkajs', events },
    onTick: (text) => progress.tick(text),
  })
}

async function emptyReadSide(databases: Databases, { tables }: Target): Promise<void> {
  await using client = await connect(databases.read())
  await client.query(`truncate ${[...tables, 'read.offsets', 'read.heartbeats'].join(', ')}`)
}

async function projectOnce(
  options: CatchUpOptions,
  { projection }: Target,
  samples: Samples,
): Promise<void> {
  const { servers, databases, events, progress } = options
  progress.step(`query-api projects ${events} events into ${projection}`)
  await using client = await connect(databases.read())
  const service = await servers.service(databases, {
    name: 'query-api',
    label: 'query-api',
    env: { COMMAND_API_URL: '', RELAY_URL: '', PROJECTIONS: projection },
  })
  try {
    const applied = async () => {
      const { rows } = await client.query<{ sum: string }>(
        'select coalesce(sum(next_offset), 0) as sum from read.offsets where projection = $1',
        [projection],
      )
      return Number(rows[0]?.sum)
    }
    const flow = await flowOf(applied, { total: events, progress, pid: service.pid })
    samples.add('projection', flow.perSecond)
    samples.add('cores', flow.cores)
  } finally {
    await service.stop()
  }
}

async function writeOnce(
  options: CatchUpOptions,
  { raw, rawName }: Target,
  samples: Samples,
): Promise<void> {
  const { databases, events, progress } = options
  progress.step(`${rawName}, without Kafka`)
  const result = (await runWorker({
    file: raw,
    input: { from: databases.write(), to: databases.read('sluice_projector'), events },
    onTick: (text) => progress.tick(text),
  })) as { perSecond: number }
  samples.add('raw', result.perSecond)
}

/** Throws `violation` unless every row is there, as the account's last event or its own left it. */
export async function checkRows(
  databases: Pick<Databases, 'read'>,
  target: Pick<Target, 'projection' | 'check'>,
  accounts: number,
): Promise<void> {
  const { projection, check } = target
  await using client = await connect(databases.read())
  const { rows } = await client.query<{ all: number; right: number }>(check.text)
  const expected = accounts * check.rowsPerAccount
  mustEqual(`rows of ${projection}`, rows[0]?.all ?? 0, expected)
  mustEqual(`rows of ${projection} that are right`, rows[0]?.right ?? 0, expected)
}
