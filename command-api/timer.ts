import { hash } from 'node:crypto'
import { schedule, type RunCoordinator } from 'node-cron'
import type { Pool, PoolClient } from 'pg'
import type { Log } from 'service/log'
import { onWallClock } from 'service/wall-clock'

// Work that comes round, in one process at a time. Who works holds a lock of the database for as long
// as it works: one that dies is followed at the next tick, and no clock decides. Work must bear being
// done twice all the same, since a lock ends with its connection.

export type TimerSettings = {
  name: string
  pool: Pool
  /** 1 to 59; 0 is never. */
  everySeconds: number
  work: () => Promise<void>
  log: Log
}

/** Works until disposed, which waits for work that is under way. */
export function startTimer(settings: TimerSettings): AsyncDisposable {
  const { name, pool, everySeconds, work, log } = settings
  if (everySeconds === 0) return { [Symbol.asyncDispose]: () => Promise.resolve() }
  let running: Promise<void> | undefined
  let stopped = false
  const failed = (error: unknown) =>
    log.warn({ event: 'timer_failed', timer: name, err: error }, `${name} failed, and comes again`)
  const run = async () => {
    await running
    running = stopped ? undefined : work().catch(failed)
    await running
  }
  const ticking = onWallClock(() =>
    schedule(`*/${everySeconds} * * * * *`, run, {
      name,
      noOverlap: true,
      distributed: true,
      runCoordinator: oneAtATime(pool, name),
      // A tick that a busy process is late for is made up for, however late.
      missedExecutionTolerance: everySeconds * 1_000,
      suppressMissedWarning: true,
      logger: { info: () => {}, warn: () => {}, debug: () => {}, error: failed },
    }),
  )
  return {
    async [Symbol.asyncDispose]() {
      stopped = true
      await ticking[Symbol.asyncDispose]()
      await running
    },
  }
}

/** Elects whoever gets the transaction-level lock of the timer's name. */
export function oneAtATime(pool: Pool, name: string): RunCoordinator {
  const number = hash('sha256', `timer ${name}`, 'buffer').readBigInt64BE(0)
  let holder: PoolClient | undefined
  return {
    async shouldRun() {
      const client = await pool.connect()
      try {
        await client.query('begin')
        const text = 'select pg_try_advisory_xact_lock($1) as elected'
        const { rows } = await client.query<{ elected: boolean }>(text, [String(number)])
        const elected = rows[0]?.elected === true
        if (elected) holder = client
        else await release(client)
        return elected
      } catch (error) {
        client.release(error as Error)
        throw error
      }
    },
    async onComplete() {
      const client = holder
      holder = undefined
      if (client !== undefined) await release(client)
    },
  }
}

/** A connection that was lost meanwhile is closed, not mended; its lock has ended with it. */
async function release(client: PoolClient): Promise<void> {
  try {
    await client.query('rollback')
    client.release()
  } catch (error) {
    client.release(error as Error)
  }
}
