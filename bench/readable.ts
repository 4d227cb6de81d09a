import { waitUntil } from 'local-stack'
import { mustEqual } from './errors.ts'
import { figure, type Figure } from './figures.ts'
import { checkLedger } from './ledger-check.ts'
import type { PacedResult } from './paced-load.ts'
import type { Progress } from './progress.ts'
import { percentile, Samples } from './rounds.ts'
import { connect, type Databases, freeServicePorts, type Servers } from './servers.ts'
import { checkVersions, newTopic } from './topic-check.ts'
import { runWorker } from './worker.ts'

// Part c: the three real services, 200 deposits a second. How long from a command's answer until a
// read with its token is fresh; and from the commit of its event to the commit of its row in the
// projection, by PostgreSQL's own commit timestamps: one clock, and nobody polls.

export type ReadableOptions = {
  servers: Servers
  rounds: number
  seconds: number
  progress: Progress
}

const perSecond = 200
/** Compilers of four processes have to be done by then. */
const warmUpSeconds = 15
const accountPrefix = 'paced-'
/** Of each account: opened, its opening deposit, the deposit that is measured. */
const versions = 3

/** Throws `violation`. */
export async function measureReadable(options: ReadableOptions): Promise<Figure[]> {
  const samples = new Samples()
  for (let round = 0; round < options.rounds; round += 1) await readOnce(options, round, samples)
  const common = { part: 'c', unit: 'ms' }
  const plain = (name: string) => ({ name: 'plain read', rounds: samples.of(`read ${name}`) })
  const row = (name: string) => ({
    name: 'a read and its wait',
    rounds: samples.of(`fresh ${name}`),
  })
  return [
    ...(['p50', 'p99'] as const).map((name) =>
      figure({
        ...common,
        name: `command answered to fresh read, ${name}`,
        rounds: samples.of(`fresh ${name}`),
        baseline: plain(name),
        targets: [{ of: 'value', atMost: name === 'p50' ? 25 : 80 }],
      }),
    ),
    ...(['p50', 'p99'] as const).map((name) =>
      figure({
        ...common,
        name: `commit to row in the projection, ${name}`,
        rounds: samples.of(`row ${name}`),
        baseline: row(name),
        targets: [{ of: 'value', atMost: name === 'p50' ? 25 : 80 }],
      }),
    ),
  ]
}

async function readOnce(options: ReadableOptions, round: number, samples: Samples): Promise<void> {
  const { servers, seconds, progress } = options
  progress.step(`round ${round + 1}: ${perSecond} deposits/s, each read with its token`)
  const warmUp = perSecond * warmUpSeconds
  const deposits = warmUp + perSecond * seconds * 2
  const databases = await servers.databases(`bench_readable_${round}`)
  await newTopic(servers.brokers, 'account-events')
  await using cleanup = new AsyncDisposableStack()
  const ports = await freeServicePorts()
  // The producer that a relay has by default is the one measured last.
  const env = { HEARTBEAT_SECONDS: '0', PROJECTIONS: 'accounts' }
  for (const name of ['command-api', 'outbox-relay', 'query-api'] as const) {
    const service = await servers.service(databases, { name, label: name, env, ports })
    cleanup.defer(service.stop)
  }
  await openAccounts(options, databases, { port: ports.commandApi, accounts: deposits })
  await servers.checkpoint()
  const result = (await runWorker({
    file: './paced-load.ts',
    input: {
      commandPort: ports.commandApi,
      queryPort: ports.queryApi,
      accessKey: servers.accessKey,
      accountPrefix,
      version: versions,
      perSecond,
      deposits,
      warmUp,
    },
    onTick: (text) => progress.tick(text),
  })) as PacedResult
  const rowMs = await commitToRowMs(databases, { deposits, warmUp })
  for (const [name, values] of Object.entries({
    fresh: result.freshMs,
    read: result.readMs,
    row: rowMs,
  })) {
    const sorted = values.toSorted((a, b) => a - b)
    samples.add(`${name} p50`, percentile(sorted, 0.5))
    samples.add(`${name} p99`, percentile(sorted, 0.99))
  }
  await checkLedger(databases.write())
  await checkVersions(servers.brokers, 'account-events', { accounts: deposits, versions })
}

async function openAccounts(
  { servers, progress }: ReadableOptions,
  databases: Databases,
  { port, accounts }: { port: number; accounts: number },
): Promise<void> {
  const { accessKey } = servers
  const load = {
    kind: 'open',
    port,
    accessKey,
    connections: 16,
    accountPrefix,
    accounts,
    run: 'open',
  }
  await runWorker({ file: './http-load.ts', input: load })
  await using client = await connect(databases.read())
  await waitUntil(
    async () => {
      const { rows } = await client.query<{ count: number }>(
        'select count(*)::int as count from read.accounts',
      )
      progress.tick(`${rows[0]?.count} of ${accounts} accounts are readable`)
      return rows[0]?.count === accounts
    },
    { what: 'all accounts to be readable', deadlineMs: 60_000, intervalMs: 100 },
  )
}

/** One per deposit after the warm-up: each account had one, so its row's last commit is that one. */
async function commitToRowMs(
  databases: Databases,
  { deposits, warmUp }: { deposits: number; warmUp: number },
): Promise<number[]> {
  await using write = await connect(databases.write())
  await using read = await connect(databases.read())
  type Row = { id: string; ms: number; version: number }
  const written = await write.query<Row>(
    `select account_id as id, version::int as version,
        (extract(epoch from pg_xact_commit_timestamp(xmin)) * 1000)::float8 as ms
      from ledger.account_events where version = $1`,
    [versions],
  )
  const projected = await read.query<Row>(
    `select id, version::int as version,
        (extract(epoch from pg_xact_commit_timestamp(xmin)) * 1000)::float8 as ms
      from read.accounts where version = $1`,
    [versions],
  )
  mustEqual('deposits recorded', written.rows.length, deposits)
  mustEqual('deposits projected', projected.rows.length, deposits)
  const rowMs = new Map(projected.rows.map((row) => [row.id, row.ms]))
  return written.rows
    .filter((row) => Number(row.id.slice(accountPrefix.length)) >= warmUp)
    .map((row) => (rowMs.get(row.id) ?? Number.NaN) - row.ms)
}
