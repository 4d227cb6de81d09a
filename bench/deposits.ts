import { mustEqual } from './errors.ts'
import { figure, type Figure } from './figures.ts'
import type { CommandKind, LoadInput, LoadResult } from './http-load.ts'
import { checkLedger, countsOf, type LedgerCounts } from './ledger-check.ts'
import { cpuSeconds, cpuSecondsWithChildren } from './process-usage.ts'
import type { Progress } from './progress.ts'
import { rotated, Samples } from './rounds.ts'
import { connect, type Databases, type RunningService, type Servers } from './servers.ts'
import { runWorker } from './worker.ts'

// Part d: deposits by HTTP on the real command-api process, beside the fixed reference
// (raw-deposits.ts) and, at few connections, beside the same service with one command per
// transaction. On many accounts and on one. In the middle also transfers, dry runs and refusals,
// beside the deposits.

export type DepositsOptions = {
  servers: Servers
  rounds: number
  seconds: number
  progress: Progress
}

const manyAccounts = 10_000
const accountPrefix = 'bench-'
const connectionCounts = [4, 32, 64] as const
const fewConnections = 4
const middleConnections = 32

/** What one command of a kind leaves behind. */
const traces: Readonly<Record<CommandKind, LedgerCounts>> = {
  deposit: { events: 1, queued: 1, answers: 1, money: 100 },
  transfer: { events: 2, queued: 2, answers: 1, money: 0 },
  'dry run': { events: 0, queued: 0, answers: 0, money: 0 },
  refusal: { events: 0, queued: 0, answers: 1, money: 0 },
}
const beside = ['transfer', 'dry run', 'refusal'] as const

type Bench = DepositsOptions & {
  databases: Databases
  batching: RunningService
  /** The same service, told to put one command into a transaction. */
  single: RunningService
  samples: Samples
}

/** Throws `violation`. */
export async function measureDeposits(options: DepositsOptions): Promise<Figure[]> {
  const { servers, rounds, progress } = options
  const databases = await servers.databases('bench_deposits')
  const start = (label: string, env: Record<string, string>) =>
    servers.service(databases, {
      name: 'command-api',
      label,
      env: { HEARTBEAT_SECONDS: '0', ...env },
    })
  await using cleanup = new AsyncDisposableStack()
  const batching = await start('command-api', {})
  cleanup.defer(batching.stop)
  const single = await start('command-api-single', {
    COMMAND_BATCH_LIMIT: '1',
    COMMAND_LANES: String(fewConnections),
  })
  cleanup.defer(single.stop)
  const samples = new Samples()
  const bench: Bench = { ...options, databases, batching, single, samples }
  await openAccounts(bench)
  for (let round = 0; round < rounds; round += 1) {
    for (const measure of rotated(measurements(bench), round)) {
      await servers.checkpoint()
      await measure(round)
    }
  }
  progress.step('checking the ledger')
  await checkLedger(databases.write())
  return [
    ...connectionCounts.flatMap((count) => figuresOf(count, samples)),
    ...besideFigures(samples),
    costOf(samples),
  ]
}

/** In an order that keeps what is compared close together. */
function measurements(bench: Bench): ((round: number) => Promise<void>)[] {
  const http = (variant: Partial<HttpVariant> & { connections: number }) => (round: number) =>
    byHttp(bench, { ...usual, ...variant }, round)
  return connectionCounts.flatMap((connections) => [
    ...(connections === fewConnections ? [http({ connections, single: true })] : []),
    http({ connections }),
    ...(connections === middleConnections ? beside.map((kind) => http({ connections, kind })) : []),
    http({ connections, accounts: 1 }),
    () => raw(bench, connections),
  ])
}

type HttpVariant = { kind: CommandKind; connections: number; accounts: number; single: boolean }

const usual = { kind: 'deposit', accounts: manyAccounts, single: false } as const

async function byHttp(bench: Bench, variant: HttpVariant, round: number): Promise<void> {
  const { kind, connections, accounts, single } = variant
  const service = single ? bench.single : bench.batching
  const name = nameOf(variant)
  bench.progress.step(`round ${round + 1}: ${name}`)
  const cpuBefore = cpuSeconds(service.pid) ?? Number.NaN
  const begunMs = performance.now()
  const result = await counted(bench, kind, () =>
    load(bench, {
      kind,
      port: service.port,
      connections,
      accounts,
      run: `${name.replaceAll(/\W+/g, '-')}-${round}`,
    }),
  )
  const cpu = (cpuSeconds(service.pid) ?? Number.NaN) - cpuBefore
  const cores = cpu / ((performance.now() - begunMs) / 1_000)
  bench.samples.add(`${name} cpu`, costUs(cpu + result.postgresCpuSeconds, result))
  bench.samples.add(`${name} service cpu`, costUs(cpu, result))
  bench.samples.add(name, result.perSecond)
  bench.samples.add(`${name} p50`, result.p50Ms)
  bench.samples.add(`${name} p99`, result.p99Ms)
  bench.samples.add(`${name} service cores`, cores)
  bench.samples.add(`${name} load cores`, result.cores)
}

function nameOf({ kind, connections, accounts, single }: HttpVariant): string {
  const on = accounts === 1 ? 'one account' : `${accounts} accounts`
  const what = kind === 'deposit' ? '' : `, ${kind}s`
  return `${connections} connections, ${on}${what}${single ? ', one transaction each' : ''}`
}

async function raw(bench: Bench, connections: number): Promise<void> {
  const { databases, progress, samples } = bench
  progress.step(`raw reference, ${connections} connections`)
  const result = await counted(bench, 'deposit', async () => {
    return (await runWorker({
      file: './raw-deposits.ts',
      input: {
        url: databases.write('sluice_command'),
        connections,
        accountPrefix,
        accounts: manyAccounts,
        ...timesOf(bench),
      },
      onTick: (text) => progress.tick(text),
    })) as LoadResult
  })
  samples.add(`raw ${connections}`, result.perSecond)
  samples.add(`raw ${connections} p99`, result.p99Ms)
  const { warmUpSeconds, seconds } = timesOf(bench)
  const cpu = result.cores * (warmUpSeconds + seconds)
  samples.add(`raw ${connections} cpu`, costUs(cpu + result.postgresCpuSeconds, result))
}

type Counted = { databases: Databases; servers: Pick<Servers, 'postgresPid'> }

/** Throws `violation` unless every command left what its kind leaves, and nothing else did. */
export async function counted(bench: Counted, kind: CommandKind, run: () => Promise<LoadResult>) {
  await using client = await connect(bench.databases.write())
  const before = await countsOf(client)
  const cpuBefore = cpuSecondsWithChildren(bench.servers.postgresPid)
  const result = await run()
  const postgresCpuSeconds = cpuSecondsWithChildren(bench.servers.postgresPid) - cpuBefore
  const after = await countsOf(client)
  for (const what of ['events', 'queued', 'answers', 'money'] as const) {
    mustEqual(
      `${what} of ${kind}s`,
      after[what] - before[what],
      result.answered * traces[kind][what],
    )
  }
  return { ...result, postgresCpuSeconds }
}

/** CPU per command in microseconds: a contended machine changes it less than it changes rates. */
const costUs = (seconds: number, { answered }: LoadResult) => (seconds / answered) * 1e6

async function openAccounts(bench: Bench): Promise<void> {
  bench.progress.step(`opening ${manyAccounts} accounts`)
  await load(bench, {
    kind: 'open',
    port: bench.batching.port,
    connections: 32,
    accounts: manyAccounts,
    run: 'open',
  })
}

type LoadRun = Pick<LoadInput, 'kind' | 'port' | 'connections' | 'accounts' | 'run'>

async function load(bench: Bench, run: LoadRun): Promise<LoadResult> {
  const input = { ...run, ...timesOf(bench), accessKey: bench.servers.accessKey, accountPrefix }
  const onTick = (text: string) => bench.progress.tick(text)
  return (await runWorker({ file: './http-load.ts', input, onTick })) as LoadResult
}

const timesOf = ({ seconds }: Bench) => ({ warmUpSeconds: 1, seconds })

function figuresOf(connections: number, samples: Samples): Figure[] {
  const many = nameOf({ ...usual, connections })
  const one = nameOf({ ...usual, connections, accounts: 1 })
  const p99 = (name: string) => ({
    part: 'd',
    name: `${name}, p99`,
    unit: 'ms',
    rounds: samples.of(`${name} p99`),
    note: `p50 ${samples.median(`${name} p50`).toFixed(2)} ms`,
  })
  const middle = connections === middleConnections
  const rawRate = { name: 'raw CTE', rounds: samples.of(`raw ${connections}`) }
  const rawP99 = { name: 'raw CTE', rounds: samples.of(`raw ${connections} p99`) }
  const figures = [
    figure({
      part: 'd',
      name: many,
      unit: '/s',
      rounds: samples.of(many),
      baseline: rawRate,
      targets: middle ? [{ of: 'ratio', atLeast: 1.2 }] : [],
    }),
    figure({
      ...p99(many),
      baseline: rawP99,
      targets: middle ? [{ of: 'value', atMost: 25 }] : [],
    }),
    figure({
      part: 'd',
      name: `${many}, CPU each`,
      unit: 'us',
      rounds: samples.of(`${many} cpu`),
      baseline: { name: 'raw CTE', rounds: samples.of(`raw ${connections} cpu`) },
      note: `${Math.round(samples.median(`${many} service cpu`))} us of it the service`,
    }),
    figure({
      part: 'd',
      name: one,
      unit: '/s',
      rounds: samples.of(one),
      baseline: { name: 'many accounts', rounds: samples.of(many) },
      targets: [{ of: 'ratio', atLeast: 1 }],
    }),
    figure(p99(one)),
  ]
  if (connections !== fewConnections) return figures
  const single = nameOf({ ...usual, connections, single: true })
  const batched = figure({
    part: 'd',
    name: `${many} `,
    unit: '/s',
    rounds: samples.of(many),
    baseline: { name: 'one transaction each', rounds: samples.of(single) },
    targets: [{ of: 'ratio', atLeast: 1 }],
  })
  return [batched, ...figures]
}

/** Other commands than deposits, each beside those. */
function besideFigures(samples: Samples): Figure[] {
  const connections = middleConnections
  const deposits = nameOf({ ...usual, connections })
  return beside.flatMap((kind) => {
    const name = nameOf({ ...usual, connections, kind })
    const p99 = samples.median(`${name} p99`).toFixed(1)
    const cpu = Math.round(samples.median(`${name} service cpu`))
    return [
      figure({
        part: 'd',
        name,
        unit: '/s',
        rounds: samples.of(name),
        baseline: { name: 'deposits', rounds: samples.of(deposits) },
        targets: [{ of: 'ratio', atLeast: kind === 'transfer' ? 0.5 : 1 }],
        note: `p99 ${p99} ms`,
      }),
      figure({
        part: 'd',
        name: `${name}, CPU each`,
        unit: 'us',
        rounds: samples.of(`${name} cpu`),
        baseline: { name: 'deposits', rounds: samples.of(`${deposits} cpu`) },
        note: `${cpu} us of it the service`,
      }),
    ]
  })
}

/** What making the load costs, where it is heaviest. */
function costOf(samples: Samples): Figure {
  const name = nameOf({ ...usual, connections: 64 })
  return figure({
    part: 'd',
    name: 'cost of the load generator at 64',
    unit: 'cores',
    rounds: samples.of(`${name} load cores`),
    baseline: { name: 'command-api', rounds: samples.of(`${name} service cores`) },
  })
}
