import { flowOf } from './flow.ts'
import { mustEqual } from './errors.ts'
import { figure, type Figure } from './figures.ts'
import { eventsPerAccount } from './outbox-fill.ts'
import type { Progress } from './progress.ts'
import { rotated, Samples } from './rounds.ts'
import { connect, type Databases, type Servers } from './servers.ts'
import { newTopic, recordsIn } from './topic-check.ts'
import { runWorker } from './worker.ts'

// Part b: the real query-api process projects a full topic into an empty read database, and beside
// it the same rows are upserted from memory, without Kafka.

export type CatchUpOptions = {
  servers: Servers
  databases: Databases
  events: number
  rounds: number
  progress: Progress
}

/** Throws `violation`. */
export async function measureCatchUp(options: CatchUpOptions): Promise<Figure[]> {
  const { servers, events, rounds } = options
  await fillTopic(options)
  const samples = new Samples()
  const variants = [() => projectOnce(options, samples), () => upsertOnce(options, samples)]
  for (let round = 0; round < rounds; round += 1) {
    for (const run of rotated(variants, round)) {
      await emptyReadSide(options.databases)
      await servers.checkpoint()
      await run()
      await checkAccounts(options.databases, events / eventsPerAccount)
    }
  }
  return [
    figure({
      part: 'b',
      name: 'projection into accounts',
      unit: 'events/s',
      rounds: samples.of('projection'),
      baseline: { name: 'the same upserts raw', rounds: samples.of('raw') },
      targets: [{ of: 'value', atLeast: 40_000 }],
      note: `query-api ${samples.median('cores').toFixed(2)} cores`,
    }),
  ]
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

async function emptyReadSide(databases: Databases): Promise<void> {
  await using client = await connect(databases.read())
  await client.query('truncate read.accounts, read.offsets, read.heartbeats')
}

async function projectOnce(options: CatchUpOptions, samples: Samples): Promise<void> {
  const { servers, databases, events, progress } = options
  progress.step(`query-api projects ${events} events`)
  await using client = await connect(databases.read())
  const service = await servers.service(databases, {
    name: 'query-api',
    label: 'query-api',
    env: { COMMAND_API_URL: '', RELAY_URL: '' },
  })
  try {
    const applied = async () => {
      const { rows } = await client.query<{ sum: string }>(
        `select coalesce(sum(next_offset), 0) as sum from read.offsets where projection = 'accounts'`,
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

async function upsertOnce(options: CatchUpOptions, samples: Samples): Promise<void> {
  const { databases, events, progress } = options
  progress.step('the same upserts without Kafka')
  const result = (await runWorker({
    file: './raw-upserts.ts',
    input: { from: databases.write(), to: databases.read('sluice_projector'), events },
    onTick: (text) => progress.tick(text),
  })) as { perSecond: number }
  samples.add('raw', result.perSecond)
}

/** Every account stands at its last event: version and balance. */
async function checkAccounts(databases: Databases, accounts: number): Promise<void> {
  await using client = await connect(databases.read())
  const balance = (eventsPerAccount - 1) * 100
  const { rows } = await client.query<{ all: number; right: number }>(
    `select count(*)::int as all,
        count(*) filter (where version = $1 and ledger_balance = $2)::int as right
      from read.accounts`,
    [eventsPerAccount, balance],
  )
  mustEqual('accounts projected', rows[0]?.all ?? 0, accounts)
  mustEqual('accounts at their last event', rows[0]?.right ?? 0, accounts)
}
