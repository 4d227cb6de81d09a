import type { Duplex, Writable } from 'node:stream'
import pg from 'pg'
import { Kysely, PostgresDialect } from 'kysely'

export type PoolSettings = {
  url: string
  /** Shown in pg_stat_activity: which process and which part of it. */
  applicationName: string
  maxConnections: number
  /** Session settings by name, forced at connect: they win over those of role and database. */
  settings?: Readonly<Record<string, string>>
  /** How long to wait for an answer before the connection is taken for dead; for ever by default. */
  queryTimeoutMs?: number
  /** Queries of one connection are sent without waiting for the answers before them. */
  pipeline?: boolean
  /** Once it aborts, what has no answer 5 s later is cut: perhaps nobody is at the other end. */
  stop?: AbortSignal
  /** Told of a connection lost while idle; the pool replaces it by itself. */
  onError: (error: Error) => void
}

const cutAfterMs = 5_000

export type Pool = pg.Pool & AsyncDisposable
export type PoolClient = pg.PoolClient

/** A pool of connections. Queries reject when no connection can be had within 5 s. */
export function openPool(settings: PoolSettings): Pool {
  const pool = new pg.Pool({
    connectionString: settings.url,
    application_name: settings.applicationName,
    max: settings.maxConnections,
    connectionTimeoutMillis: 5_000,
    keepAlive: true,
    ...(settings.queryTimeoutMs === undefined ? {} : { query_timeout: settings.queryTimeoutMs }),
    options: sessionOptions(settings.settings ?? {}),
    pipeline: settings.pipeline ?? false,
  })
  pool.on('error', settings.onError)
  // A client in use reports a lost connection to its query; without a listener of its own the same
  // event would end the process.
  const streams = new Set<Duplex>()
  pool.on('connect', (client) => {
    client.on('error', settings.onError)
    const { stream } = (client as pg.PoolClient & Pick<pg.Client, 'connection'>).connection
    streams.add(stream)
    stream.once('close', () => streams.delete(stream))
    if (settings.pipeline === true) writeOncePerTurn(stream)
  })
  settings.stop?.addEventListener('abort', () => {
    const cut = () => streams.forEach((stream) => stream.destroy())
    setTimeout(cut, cutAfterMs).unref()
  })
  return Object.assign(pool, { [Symbol.asyncDispose]: () => pool.end() })
}

/**
 * Statements that are given in one turn of the event loop leave together. Each write wakes the server's
 * process, which on a busy machine takes the processor from the one that was about to write more.
 */
function writeOncePerTurn(stream: Writable): void {
  const write = stream.write.bind(stream)
  let corked = false
  const uncork = () => {
    corked = false
    stream.uncork()
  }
  stream.write = ((...given: Parameters<Writable['write']>) => {
    if (!corked) {
      corked = true
      stream.cork()
      process.nextTick(uncork)
    }
    return write(...given)
  }) as Writable['write']
}

export type ReplicationSettings = Pick<PoolSettings, 'url' | 'applicationName' | 'settings'>

/**
 * A connection, not yet connected, that may also speak the replication protocol (a walsender of this
 * database). Its role needs REPLICATION; only simple queries work on it.
 */
export function replicationClient(settings: ReplicationSettings): pg.Client {
  const config: pg.ClientConfig & { replication: 'database' } = {
    connectionString: settings.url,
    application_name: settings.applicationName,
    connectionTimeoutMillis: 5_000,
    keepAlive: true,
    options: sessionOptions(settings.settings ?? {}),
    replication: 'database',
  }
  return new pg.Client(config)
}

/** Kysely over a pool of its own; destroying it ends the pool. */
export function openDatabase<Schema>(settings: PoolSettings): Kysely<Schema> {
  return databaseOver(openPool(settings))
}

/** Kysely over a pool that others use too: its statements are not named, and planned each time. */
export function databaseOver<Schema>(pool: pg.Pool): Kysely<Schema> {
  return new Kysely<Schema>({ dialect: new PostgresDialect({ pool }) })
}

/** The startup packet's `options`: spaces and backslashes inside a value are escaped. */
export function sessionOptions(settings: Readonly<Record<string, string>>): string {
  return Object.entries(settings)
    .map(([name, value]) => `-c ${name}=${value.replaceAll(/([\\ ])/g, '\\$1')}`)
    .join(' ')
}

/** The SQLSTATE of an error that PostgreSQL reported; undefined for any other error. */
export function sqlStateOf(error: unknown): string | undefined {
  return error instanceof pg.DatabaseError ? error.code : undefined
}

/**
 * Whether the connection, not the statement, failed: refused, cut, timed out, shut down by the
 * server. The statement may or may not have taken effect.
 */
export function isConnectionLost(error: unknown): boolean {
  const state = sqlStateOf(error)
  if (state !== undefined) return /^(08...|57P0[1235]|53300|25P0[34])$/.test(state)
  const { code, message } = error as { code?: unknown; message?: string }
  if (typeof code === 'string' && /^E(CONN|PIPE|TIMEDOUT|HOST|NET|AI_AGAIN)/.test(code)) return true
  return /^(Connection terminated|timeout exceeded when trying to connect|Query read timeout|Client has encountered)/.test(
    message ?? '',
  )
}
