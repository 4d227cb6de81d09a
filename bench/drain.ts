import { nodeFlags } from 'local-stack'
import { figure, type Figure } from './figures.ts'
import { flowOf } from './flow.ts'
import { eventsPerAccount } from './outbox-fill.ts'
import { peakMemoryMb } from './process-usage.ts'
import type { Progress } from './progress.ts'
import { rotated, Samples } from './rounds.ts'
import { connect, type Databases, type Servers } from './servers.ts'
import { checkVersions, newTopic } from './topic-check.ts'
import { runWorker } from './worker.ts'

// Part a, with e: the real relay process drains a filled outbox, and beside it the same client sends
// the same records from memory. Both are timed while records flow, neither while it starts.

const producerNames = ['kafkajs', 'direct'] as const

export type DrainOptions = {
  servers: Servers
  databases: Databases
  events: number
  rounds: number
  progress: Progress
}

/** Leaves `account-events` as the last drain filled it. Throws `violation`. */
export async function measureDrain(options: DrainOptions): Promise<Figure[]> {
  const samples = new Samples()
  const variants = producerNames.flatMap((producer) => [
    () => drainOnce(options, producer, samples),
    () => produceOnce(options, producer, samples),
  ])
  for (let round = 0; round < options.rounds; round += 1) {
    for (const run of rotated(variants, round)) {
      await options.servers.checkpoint()
      await run()
    }
  }
  return producerNames.flatMap((producer) => figuresOf(producer, samples))
}

function figuresOf(producer: string, samples: Samples): Figure[] {
  const direct = producer === 'direct'
  const drained = {
    part: 'a',
    name: `drain, ${producer} producer`,
    unit: 'events/s',
    rounds: samples.of(`${producer} drain`),
    note: `relay ${samples.median(`${producer} cpu`).toFixed(2)} cores, ${samples.of(`${producer} repeats`).join('+')} records sent twice`,
  }
  const alone = { name: 'producing only', rounds: samples.of(`${producer} produce`) }
  const memory = {
    part: 'e',
    name: `peak memory of the relay, ${producer}`,
    unit: 'MB',
    rounds: samples.of(`${producer} memory`),
    targets: [{ of: 'value', atMost: 250 }] as const,
  }
  const figures = [
    figure({
      ...drained,
      baseline: alone,
      targets: direct ? [] : [{ of: 'ratio', atLeast: 0.75 }],
    }),
    figure(memory),
  ]
  if (!direct) return figures
  const beside = figure({
    ...drained,
    name: 'drain, direct beside kafkajs',
    baseline: { name: 'kafkajs drain', rounds: samples.of('kafkajs drain') },
    targets: [
      { of: 'value', atLeast: 110_000 },
      { of: 'ratio', atLeast: 2.5 },
    ],
  })
  return [beside, ...figures]
}

async function drainOnce(options: DrainOptions, producer: string, samples: Samples): Promise<void> {
  const { servers, databases, events, progress } = options
  progress.step(`relay drains ${events} events, ${producer} producer`)
  await newTopic(servers.brokers, 'account-events')
  await using admin = await connect(databases.write())
  await admin.query('delete from outbox.gaps')
  await admin.query('update outbox.relay set next_position = 1, leader = null')
  const relay = await servers.service(databases, {
    name: 'outbox-relay',
    label: `relay-${producer}`,
    env: { KAFKA_PRODUCER: producer },
  })
  try {
    const next = async () => {
      const { rows } = await admin.query<{ next: string }>(
        'select next_position as next from outbox.relay',
      )
      return Number(rows[0]?.next) - 1
    }
    const flow = await flowOf(next, { total: events, progress, pid: relay.pid })
    samples.add(`${producer} drain`, flow.perSecond)
    samples.add(`${producer} cpu`, flow.cores)
    samples.add(`${producer} memory`, peakMemoryMb(relay.pid) ?? Number.NaN)
  } finally {
    await relay.stop()
  }
  progress.step('reading the topic back')
  const accounts = events / eventsPerAccount
  const { repeats } = await checkVersions(servers.brokers, 'account-events', {
    accounts,
    versions: eventsPerAccount,
  })
  samples.add(`${producer} repeats`, repeats)
}

async function produceOnce(options: DrainOptions, producer: string, samples: Samples) {
  const { servers, databases, events, progress } = options
  progress.step(`producing only, ${producer} producer`)
  const topic = 'bench-events'
  await newTopic(servers.brokers, topic)
  const result = (await runWorker({
    file: './produce-only.ts',
    input: {
      brokers: servers.brokers,
      url: databases.write('sluice_relay'),
      topic,
      producer,
      events,
    },
    // The relay's own, so that the same memory stands to the same client's disposal.
    nodeFlags: nodeFlags['outbox-relay'] ?? [],
    onTick: (text) => progress.tick(text),
  })) as { perSecond: number }
  samples.add(`${producer} produce`, result.perSecond)
  const accounts = events / eventsPerAccount
  await checkVersions(servers.brokers, topic, { accounts, versions: eventsPerAccount })
}
