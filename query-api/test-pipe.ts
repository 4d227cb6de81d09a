// A topic of a test's own with projectors on it, as many and as often as it likes, and what becomes
// of the read model.
import { randomUUID } from 'node:crypto'
import { openProducer } from 'kafka/producer'
import { createTopic, deleteTopic } from 'kafka/test-topics'
import { testBrokers } from 'local-stack/test-databases'
import { encode, type OutboxRow } from 'outbox-relay/wire'
import type { Pool } from 'pg'
import { openLog } from 'service/log'
import { onTestFinished, vi } from 'vitest'
import { openLogLook } from './log-look.ts'
import { accounts } from './projections/accounts.ts'
import type { Projection } from './projection.ts'
import { type ProjectorSettings, runProjector } from './projector.ts'
import type { Feed } from './quarantine/feed.ts'
import { Repairer } from './quarantine/repairer.ts'
import { newStatus } from './status.ts'
import { projected } from './test-events.ts'

export const patient = { timeout: 25_000, interval: 20 }

type Start = {
  projection?: Projection
  /** Without one nothing is repaired. */
  feed?: Feed
  sweep?: ProjectorSettings['sweep']
  /** Members of another group are given all partitions, too. */
  group?: string
  chunkRecords?: number
}

/** `pool` is of the role sluice_projector, on a read database that only this file uses. */
export async function openTestPipe(pool: Pool, partitions = 3) {
  const brokers = testBrokers()
  const log = openLog('query-api', 'silent')
  const topic = `pipe-${randomUUID()}`
  const lookAtLog = openLogLook({ brokers, topic })
  await createTopic(brokers, topic, partitions)
  onTestFinished(async () => {
    await pool.query('delete from read.quarantine')
    await deleteTopic(brokers, topic).catch(() => {})
  })

  function start(options: Start = {}) {
    const { projection = accounts, feed, sweep, group = 'group', chunkRecords = 500 } = options
    const groupId = `${group}-${projection.name}-${topic}`
    const status = newStatus(projection.name, { topic, groupId })
    const control = new AbortController()
    const shared = { pool, projection, status, signal: control.signal, log }
    const repairer = new Repairer({ ...shared, feed, lookIntervalMs: 50 })
    const running = runProjector({
      ...shared,
      brokers,
      watchIntervalMs: 50,
      lookAtLog,
      repairIntervalMs: 50,
      chunkRecords,
      repairer,
      ...(sweep === undefined ? {} : { sweep }),
    })
    running.catch(() => {})
    const stop = async () => {
      control.abort()
      await running
    }
    onTestFinished(stop)
    return { status, stop }
  }

  /** In a topic of the same name that was deleted and made anew, no record is left. */
  async function recreate(): Promise<void> {
    await deleteTopic(brokers, topic)
    await vi.waitUntil(() => createTopic(brokers, topic, partitions).then(() => true), patient)
  }

  async function publish(rows: readonly OutboxRow[]): Promise<void> {
    await using producer = openProducer({ brokers, clientId: 'test-pipe' })
    const records = rows.map((row) => ({ ...encode(row), topic }))
    await producer.publish(records, AbortSignal.timeout(20_000))
  }

  return { topic, partitions, start, recreate, publish }
}

/** Whether the rows are those that an uninterrupted fold of these histories gives. */
export async function isFoldOf(pool: Pool, histories: readonly OutboxRow[][]): Promise<boolean> {
  const lasts = histories.map((history) => projected(history.at(-1)!))
  const { rows } = await pool.query<{ id: string; fold: string }>(
    `select id, format('%s %s %s', version, ledger_balance, last_event_id) as fold
      from read.accounts where id = any($1)`,
    [lasts.map(({ account }) => account)],
  )
  const folds = new Map(rows.map(({ id, fold }) => [id, fold]))
  return lasts.every(
    ({ account, version, id, event }) =>
      folds.get(account) === `${version} ${event.payload.after.ledgerBalance} ${id}`,
  )
}

export async function quarantined(pool: Pool): Promise<Record<string, string>> {
  const { rows } = await pool.query<{ id: string; code: string }>(
    'select account_id as id, code from read.quarantine',
  )
  return Object.fromEntries(rows.map(({ id, code }) => [id, code]))
}
