import {
  connectorConfiguration,
  createStopped,
  patchOffsets,
  remove,
  resume,
  stop as stopConnector,
} from 'connect/connector'
import { createTopic } from 'kafka/test-topics'
import { waitUntil } from 'local-stack'
import { mustEqual } from './errors.ts'
import { figure, type Figure, type FigureInput } from './figures.ts'
import { flowOf } from './flow.ts'
import { eventsPerAccount, fillOutbox } from './outbox-fill.ts'
import type { ProbeResult } from './probe.ts'
import { peakMemoryMb } from './process-usage.ts'
import type { Progress } from './progress.ts'
import { percentile, rotated, Samples } from './rounds.ts'
import { connect, type Databases, type Servers } from './servers.ts'
import { checkVersions, newTopic, recordsIn } from './topic-check.ts'
import { runWorker } from './worker.ts'

// Part f: the ways to Kafka, one at a time: the relay in wal mode and by polling, a Debezium connector
// with its own defaults, and one tuned. Same rows, same topics, same measurements.

export type ChangeCaptureOptions = {
  servers: Servers
  events: number
  rounds: number
  /** Of the measurement of latency. */
  seconds: number
  progress: Progress
}

type Connector = 'debezium default' | 'debezium tuned'
type Mode = 'wal' | 'polling'
type Contender = Mode | Connector
const contenders: readonly Contender[] = ['wal', 'debezium default', 'debezium tuned', 'polling']

/** What reads and sends. `hold` until `go`, so that a backlog can be written. */
type Sender = {
  pid: number
  hold(): Promise<void>
  go(): Promise<void>
  /** Throws `violation` when something else than the log was drained. */
  check(): Promise<void>
} & AsyncDisposable

const topic = 'account-events'
const probesPerSecond = 200

/** Throws `violation`. */
export async function measureChangeCapture(options: ChangeCaptureOptions): Promise<Figure[]> {
  const samples = new Samples()
  await warmUpBroker(options)
  for (let round = 0; round < options.rounds; round += 1) {
    for (const contender of rotated(contenders, round)) {
      await options.servers.checkpoint()
      await measureOne(options, contender, round, samples)
    }
  }
  return figuresOf(samples)
}

/** A broker that has just started compiles while it serves: whoever comes first would pay for all. */
async function warmUpBroker({ servers, events, progress }: ChangeCaptureOptions): Promise<void> {
  const databases = await servers.databases('bench_capture_warm_up')
  await fillOutbox(databases.write(), events, progress)
  await newTopic(servers.brokers, topic)
  progress.step('the broker warms up')
  const { brokers } = servers
  await runWorker({
    file: './produce-only.ts',
    input: { brokers, url: databases.write(), topic, producer: 'direct', events },
    onTick: (text) => progress.tick(text),
  })
}

async function measureOne(
  options: ChangeCaptureOptions,
  contender: Contender,
  round: number,
  samples: Samples,
): Promise<void> {
  const { servers, events, progress } = options
  progress.step(`round ${round + 1}: ${contender} starts`)
  const label = `${contender.replaceAll(' ', '_')}_${round}`
  const databases = await servers.databases(`bench_capture_${label}`)
  await newTopic(servers.brokers, topic)
  await using sender =
    contender === 'wal' || contender === 'polling'
      ? await startRelay(options, databases, contender)
      : await startDebezium(options, databases, contender)
  progress.step(`round ${round + 1}: ${contender}, ${probesPerSecond} events a second`)
  const latencies = await probe(options, databases, `probe-${label.replaceAll('_', '-')}`)
  samples.add(`${contender} p50`, percentile(latencies, 0.5))
  samples.add(`${contender} p99`, percentile(latencies, 0.99))
  await sender.hold()
  await fillOutbox(databases.write(), events, progress)
  progress.step(`round ${round + 1}: ${contender} drains ${events} events`)
  const flowing = flowOf(() => recordsIn(servers.brokers, topic), {
    total: events,
    progress,
    pid: sender.pid,
  })
  await Promise.all([sender.go(), flowing])
  const flow = await flowing
  await sender.check()
  samples.add(`${contender} drain`, flow.perSecond)
  samples.add(`${contender} cpu`, (flow.cores / flow.perSecond) * 1e6)
  samples.add(`${contender} memory`, peakMemoryMb(sender.pid) ?? Number.NaN)
  const accounts = events / eventsPerAccount
  await checkVersions(servers.brokers, topic, { accounts, versions: eventsPerAccount })
}

async function probe(
  { servers, seconds, progress }: ChangeCaptureOptions,
  databases: Databases,
  aggregateType: string,
): Promise<number[]> {
  await createTopic(servers.brokers, `${aggregateType}-events`, 1)
  const { latenciesMs } = (await runWorker({
    file: './probe.ts',
    input: {
      brokers: servers.brokers,
      url: databases.write(),
      aggregateType,
      perSecond: probesPerSecond,
      events: probesPerSecond * (seconds + 3),
      warmUp: probesPerSecond * 3,
    },
    onTick: (text) => progress.tick(text),
  })) as ProbeResult
  return latenciesMs.toSorted((a, b) => a - b)
}

async function startRelay(
  { servers }: ChangeCaptureOptions,
  databases: Databases,
  mode: Mode,
): Promise<Sender> {
  const relay = await servers.service(databases, {
    name: 'outbox-relay',
    label: `relay-${mode}`,
    env: { RELAY_MODE: mode, KAFKA_PRODUCER: 'direct' },
  })
  if (mode === 'wal') await streams(databases)
  return {
    pid: relay.pid,
    // A relay that stands still itself is taken for dead by the server, and goes on by polling.
    hold: async () => servers.signalKafka('SIGSTOP'),
    go: async () => servers.signalKafka('SIGCONT'),
    check: () => (mode === 'wal' ? streamedThroughout(databases) : neverStreamed(databases)),
    [Symbol.asyncDispose]: async () => {
      servers.signalKafka('SIGCONT')
      await relay.stop()
    },
  }
}

async function streams(databases: Databases): Promise<void> {
  await using admin = await connect(databases.write())
  await waitUntil(
    async () => {
      const { rows } = await admin.query(
        `select from pg_replication_slots where active and database = current_database()`,
      )
      const streaming = await admin.query(`select from outbox.audit where action = 'stream_began'`)
      return rows.length === 1 && streaming.rows.length === 1
    },
    { what: 'the relay to stream', deadlineMs: 30_000 },
  )
}

/** Throws `violation` unless the relay, which says when it begins and ends to read the log, read on. */
export const streamedThroughout = (databases: Databases) => didWithStream(databases, 'stream_began')
const neverStreamed = (databases: Databases) => didWithStream(databases, '')

async function didWithStream(databases: Databases, wanted: string): Promise<void> {
  await using admin = await connect(databases.write())
  const { rows } = await admin.query<{ action: string }>(
    `select action from outbox.audit where action like 'stream%' order by id`,
  )
  mustEqual('what the relay did with its stream', rows.map(({ action }) => action).join(), wanted)
}

/** A worker of its own, so that its memory is this connector's. */
async function startDebezium(
  { servers }: ChangeCaptureOptions,
  databases: Databases,
  contender: Connector,
): Promise<Sender> {
  await using cleanup = new AsyncDisposableStack()
  const worker = await servers.connectWorker()
  cleanup.defer(worker.stop)
  const name = 'bench'
  const slotName = `bench_${contender.replaceAll(' ', '_')}`
  const { url } = worker
  await using cdc = await connect(databases.write('sluice_cdc'))
  const { rows } = await cdc.query<{ lsn: string }>(
    `select lsn from pg_create_logical_replication_slot('${slotName}', 'pgoutput')`,
  )
  cleanup.defer(async () => {
    await remove({ url }, name)
    await using again = await connect(databases.write('sluice_cdc'))
    await again.query(`select pg_drop_replication_slot('${slotName}')`)
  })
  await createStopped(
    { url },
    connectorConfiguration({
      databaseUrl: databases.write('sluice_cdc'),
      slotName,
      connectorName: name,
      ...(contender === 'debezium default' ? { tuning: 'debezium-defaults' } : {}),
    }),
  )
  await patchOffsets({ url }, name, rows[0]?.lsn ?? '')
  await resume({ url }, name)
  const kept = cleanup.move()
  return {
    pid: worker.pid,
    hold: () => stopConnector({ url }, name),
    go: () => resume({ url }, name),
    check: async () => {},
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  }
}

function figuresOf(samples: Samples): Figure[] {
  const rounds = (contender: Contender, what: string) => samples.of(`${contender} ${what}`)
  const beside = (contender: Contender, what: string) => ({
    name: contender,
    rounds: rounds(contender, what),
  })
  const wal = (what: string, rest: Omit<FigureInput, 'part' | 'rounds'>) =>
    figure({ part: 'f', rounds: rounds('wal', what), ...rest })
  const tuned = 'debezium tuned'
  return [
    wal('p50', {
      name: 'wal, commit to consumer, p50',
      unit: 'ms',
      baseline: beside(tuned, 'p50'),
      targets: [{ of: 'value', atMost: 3 }],
    }),
    wal('p99', {
      name: 'wal, commit to consumer, p99',
      unit: 'ms',
      baseline: beside(tuned, 'p99'),
      targets: [{ of: 'value', atMost: 12 }],
    }),
    wal('p50', { name: 'wal, p50 ', unit: 'ms', baseline: beside('debezium default', 'p50') }),
    wal('p99', { name: 'wal, p99 ', unit: 'ms', baseline: beside('debezium default', 'p99') }),
    wal('drain', {
      name: 'wal, drain',
      unit: 'events/s',
      baseline: beside(tuned, 'drain'),
      targets: [{ of: 'ratio', atLeast: 1.5 }],
    }),
    wal('drain', {
      name: 'wal, drain ',
      unit: 'events/s',
      baseline: beside('debezium default', 'drain'),
    }),
    wal('memory', {
      name: 'wal, peak memory',
      unit: 'MB',
      baseline: beside(tuned, 'memory'),
      targets: [{ of: 'ratio', atMost: 0.25 }],
    }),
    wal('cpu', {
      name: 'wal, CPU per million events',
      unit: 's',
      baseline: beside(tuned, 'cpu'),
      targets: [{ of: 'ratio', atMost: 0.5 }],
    }),
    ...(['p50', 'p99', 'drain', 'memory', 'cpu'] as const).map((what) =>
      figure({
        part: 'f',
        rounds: rounds('polling', what),
        name: `polling, ${inWords[what].name}`,
        unit: inWords[what].unit,
        baseline: beside('wal', what),
      }),
    ),
  ]
}

const inWords = {
  p50: { name: 'commit to consumer, p50', unit: 'ms' },
  p99: { name: 'commit to consumer, p99', unit: 'ms' },
  drain: { name: 'drain', unit: 'events/s' },
  memory: { name: 'peak memory', unit: 'MB' },
  cpu: { name: 'CPU per million events', unit: 's' },
} as const
