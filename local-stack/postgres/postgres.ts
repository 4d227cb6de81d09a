import { chownSync, existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { Client } from 'pg'
import { pause } from 'service/backoff'
import type { DataFolder } from '../data-folder.ts'
import { StackError } from '../errors.ts'
import { describeExit, runTool, startChild, type Child, type StopStep } from '../processes/child.ts'
import { preparePostgresHome, type PostgresHome } from './postgres-home.ts'

export type PostgresOptions = {
  dataFolder: DataFolder
  port: number
  /** The superuser's; it has to stay the same for the same data. */
  password: string
  /** Server settings beside or instead of ours, such as `{ max_slot_wal_keep_size: '1MB' }`. */
  settings?: Record<string, string | number>
  /** false: a crash of the machine may cost data, and everything is faster. For tests. */
  durable?: boolean
  readyDeadlineMs?: number
  signal?: AbortSignal
}

export type Postgres = Child & {
  /** The superuser's URL. */
  url(database?: string): string
  port: number
  /** The cluster was made by this start. */
  created: boolean
  note: string | undefined
}

const superuser = 'postgres'

const ourSettings = {
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  wal_level: 'logical',
  // A slot for the relay or its connector is one; the tests of both run side by side.
  max_replication_slots: 30,
  max_wal_senders: 30,
  max_prepared_transactions: 10,
  max_connections: 200,
  password_encryption: 'scram-sha-256',
  timezone: 'UTC',
  log_timezone: 'UTC',
  log_line_prefix: '%m [%p] %q%u@%d ',
}

const notDurable = { fsync: 'off', synchronous_commit: 'on', full_page_writes: 'off' }

// Fast shutdown first; then immediate, which the next start recovers from; then none at all.
const stopSteps: StopStep[] = [
  { signal: 'SIGINT', waitMs: 20_000 },
  { signal: 'SIGQUIT', waitMs: 5_000 },
  { signal: 'SIGKILL', waitMs: 5_000 },
]

/**
 * Starts PostgreSQL on the folder's data, which it makes where there are none, and resolves when it
 * answers. Throws `postgres_start_failed` with the end of its log, `postgres_password_refused`, and
 * what `preparePostgresHome` throws.
 */
export async function startPostgres(options: PostgresOptions): Promise<Postgres> {
  const { dataFolder, port, password, signal } = options
  const home = await preparePostgresHome(dataFolder.path)
  const cluster = join(home.folder, 'cluster')
  const created = !existsSync(cluster)
  if (created) await initialise(options, home, cluster)
  const url = (database = 'postgres') =>
    `postgres://${superuser}:${encodeURIComponent(password)}@127.0.0.1:${port}/${database}`
  const deadline = performance.now() + (options.readyDeadlineMs ?? 60_000)
  for (;;) {
    removeStalePidFile(cluster)
    const child = await startChild({
      name: 'postgres',
      tier: 'postgres',
      command: home.binaries.postgres,
      args: serverArguments(cluster, options),
      cwd: home.folder,
      env: process.env,
      user: home.user,
      logFile: dataFolder.logFile('postgres'),
      ledger: dataFolder.ledger,
      stopSteps,
    })
    try {
      if (await becomesReady(child, { cluster, url: url(), deadline, signal })) {
        return { ...child, url, port, created, note: home.note }
      }
    } catch (error) {
      await child.stop()
      throw error
    }
    // Backends of a server that was killed are still leaving: until then its memory is in use.
    await pause(200, signal)
  }
}

/** Makes a database where it is missing; says whether it did. */
export async function ensureDatabase(url: string, name: string): Promise<boolean> {
  const client = new Client({ connectionString: url })
  await client.connect()
  try {
    const { rowCount } = await client.query('select from pg_database where datname = $1', [name])
    if (rowCount === 0) await client.query(`create database ${client.escapeIdentifier(name)}`)
    return rowCount === 0
  } finally {
    await client.end()
  }
}

function serverArguments(cluster: string, { port, settings, durable }: PostgresOptions): string[] {
  const all = { ...ourSettings, ...(durable === false ? notDurable : {}), ...settings, port }
  return [
    '-D',
    cluster,
    ...Object.entries(all).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
  ]
}

/** Makes the cluster beside its place and renames it there, so that half of one is never used. */
async function initialise(
  { dataFolder, password, durable, signal }: PostgresOptions,
  { folder, binaries, user }: PostgresHome,
  cluster: string,
): Promise<void> {
  const unfinished = `${cluster}.new`
  const passwordFile = join(folder, 'password')
  rmSync(unfinished, { recursive: true, force: true })
  writeFileSync(passwordFile, password, { mode: 0o600 })
  if (user !== undefined) chownSync(passwordFile, user.uid, user.gid)
  try {
    const failure = await runTool(
      {
        name: 'initdb',
        command: binaries.initdb,
        args: [
          '-D',
          unfinished,
          '-U',
          superuser,
          `--pwfile=${passwordFile}`,
          '--auth=scram-sha-256',
          '--encoding=UTF8',
          '--locale=C',
          '--locale-provider=builtin',
          '--builtin-locale=C.UTF-8',
          ...(durable === false ? ['--no-sync'] : []),
        ],
        cwd: folder,
        env: process.env,
        user,
        logFile: dataFolder.logFile('postgres'),
        ledger: dataFolder.ledger,
      },
      signal,
    )
    if (failure !== undefined) throw new StackError('postgres_start_failed', failure)
    renameSync(unfinished, cluster)
  } finally {
    rmSync(passwordFile, { force: true })
  }
}

/** true: it answers. false: it ended, and another try may succeed. */
async function becomesReady(
  child: Child,
  options: { cluster: string; url: string; deadline: number; signal: AbortSignal | undefined },
): Promise<boolean> {
  const { cluster, url, deadline, signal } = options
  let exit: string | undefined
  void child.exited.then((ended) => (exit = describeExit(ended)))
  for (;;) {
    signal?.throwIfAborted()
    if (exit !== undefined) {
      if (
        /pre-existing shared memory block/.test(child.logTail()) &&
        performance.now() < deadline
      ) {
        return false
      }
      throw startFailure(exit, child)
    }
    // On a port that is taken somebody else would answer: first the server must have it.
    const refusal: (Error & { code?: string }) | undefined = listens(cluster, child.pid)
      ? await whyNotAnswering(url)
      : new Error('it does not listen yet')
    if (refusal === undefined) return true
    if (refusal.code === '28P01') {
      throw new StackError(
        'postgres_password_refused',
        'PostgreSQL refuses the password kept beside its data: secrets.json is not the one with ' +
          'which these data were made',
      )
    }
    if (performance.now() > deadline) throw startFailure(refusal.message, child)
    await pause(25, signal)
  }
}

/** Why a server does not answer at this URL; undefined when it does. */
export async function whyNotAnswering(
  url: string,
): Promise<(Error & { code?: string }) | undefined> {
  const client = new Client({ connectionString: url, connectionTimeoutMillis: 2_000 })
  // An idle client reports a lost connection as an event, which nobody else would catch.
  client.on('error', () => {})
  try {
    await client.connect()
    await client.query('select 1')
    return undefined
  } catch (error) {
    return error as Error
  } finally {
    await client.end().catch(() => {})
  }
}

/** Does this very process say, in its pid file, that it accepts connections? */
function listens(cluster: string, pid: number): boolean {
  const path = join(cluster, 'postmaster.pid')
  const lines = existsSync(path) ? readFileSync(path, 'utf8').split('\n') : []
  return lines[0] === String(pid) && lines[7]?.startsWith('ready') === true
}

/**
 * The file of a killed server may name a pid that was handed out again, and PostgreSQL takes whoever
 * has it for a living server. Only then is it removed: in every other case PostgreSQL knows better.
 */
function removeStalePidFile(cluster: string): void {
  const path = join(cluster, 'postmaster.pid')
  if (process.platform !== 'linux' || !existsSync(path)) return
  const command = `/proc/${readFileSync(path, 'utf8').split('\n')[0]}/cmdline`
  if (!existsSync(command)) return
  const program = basename(readFileSync(command, 'utf8').split('\0')[0] ?? '')
  if (!program.startsWith('postgres')) rmSync(path)
}

function startFailure(reason: string, child: Child): StackError {
  return new StackError(
    'postgres_start_failed',
    `PostgreSQL did not start (${reason}); the end of ${child.logFile}:\n${child.logTail()}`,
  )
}
