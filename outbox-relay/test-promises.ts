import { waitUntil } from 'local-stack/wait-until'
import { describe, expect, test } from 'vitest'
import type { TestedMode } from './test-modes.ts'
import type { RelayProcess } from './test-relay.ts'
import { openServer, ownServers } from './test-server.ts'
import {
  advances,
  drained,
  leads,
  openStage,
  sending,
  sendsBy,
  type Stage,
  undisturbed,
} from './test-stage.ts'
import { kept } from './test-topic.ts'
import { openProxy, through } from './wal/test-proxy.ts'

// What the relay promises, whatever its mode. What is particular to one mode is tested beside it,
// and what takes long is in `promises.long.test.ts`.

const limitMs = 60_000

/** Describes the tests of all promises, for one mode. */
export function describePromises(mode: TestedMode): void {
  describe('every committed row arrives, in order and once more at worst', () => {
    carrying(mode)
  })
  describe('the leader', () => {
    leading(mode)
  })
  describe('what no waiting can mend', () => {
    ending(mode)
  })
  describe('what passes is waited for:', () => {
    waiting(mode)
    waitingForServers(mode)
  })
}

async function expectKept(stage: Stage, more = {}): Promise<void> {
  expect(await stage.findings()).toMatchObject({ ...kept, ...more })
}

/** What the mode's own sender refused, polling would have sent. */
async function drainedBy(mode: TestedMode, relay: RelayProcess, stage: Stage): Promise<void> {
  await drained(relay, stage)
  expect(await sending(relay, stage)).toEqual(undisturbed(mode))
}

function carrying(mode: TestedMode): void {
  test('from before it began, from while it began, and from afterwards', async () => {
    await using stage = await openStage(mode)
    await stage.makeTopic()
    await stage.insert(stage.history(20, 1, 30))
    await using relay = await stage.relay()
    const inserting = stage.insert(stage.history(20, 31, 60), 5)
    await sendsBy(relay, mode)
    await inserting
    await stage.insert(stage.history(20, 61, 70))
    await drainedBy(mode, relay, stage)
    await expectKept(stage)
  })

  test('past transactions that commit late, roll back, or give a savepoint up', async () => {
    await using stage = await openStage(mode)
    await stage.makeTopic()
    const { aggregateType } = stage
    const one = (aggregateId: string, version: number) => ({ aggregateType, aggregateId, version })
    await using relay = await stage.relay()
    await sendsBy(relay, mode)
    await using late = await stage.session()
    await using never = await stage.session()
    await using other = await stage.session()
    await late.sql('begin')
    await late.insert(one('late', 1))
    await never.sql('begin')
    await never.insert(one('never', 1))
    await other.insert(one('other', 1))
    await other.sql('begin; savepoint s')
    await other.insert(one('never', 2))
    await other.sql('rollback to savepoint s')
    await other.insert(one('other', 2))
    await other.sql('commit')
    await never.sql('rollback')
    await late.insert(one('late', 2), one('other', 3))
    await late.sql('commit')
    await drainedBy(mode, relay, stage)
    await expectKept(stage, { repeated: 0 })
    expect(await stage.dump()).toHaveLength(5)
  })

  test('of one transaction with thousands of rows', async () => {
    await using stage = await openStage(mode)
    await stage.makeTopic()
    await using relay = await stage.relay({ RELAY_BATCH_ROWS: '300' })
    await sendsBy(relay, mode)
    await stage.insert(stage.history(50, 1, 60), 3_000)
    await drainedBy(mode, relay, stage)
    await expectKept(stage)
  })

  test(
    'through kill -9 of the relay, again and again',
    async () => {
      await using stage = await openStage(mode)
      await stage.makeTopic()
      await using writing = await stage.keepWriting(20)
      for (const late of [false, true]) {
        await using relay = await stage.relay({ RELAY_BATCH_ROWS: '25' })
        await leads(relay)
        if (late) await sendsBy(relay, mode)
        await advances(relay)
        await relay.stop('SIGKILL')
      }
      await writing.stop()
      await using relay = await stage.relay()
      await drained(relay, stage)
      await expectKept(stage)
    },
    limitMs,
  )
}

function leading(mode: TestedMode): void {
  test(
    'that is killed is replaced after its lease, and the other is ready all the time',
    async () => {
      await using stage = await openStage(mode)
      await stage.makeTopic()
      await using first = await stage.relay()
      await sendsBy(first, mode)
      await using second = await stage.relay()
      await stage.insert(stage.history(10, 1, 10))
      await drained(first, stage)
      expect((await fetch(`${second.url}/readyz`)).status).toBe(200)
      expect(second.logged('leading')).toBeUndefined()
      const { leader } = await second.status()
      await first.stop('SIGKILL')
      await stage.insert(stage.history(10, 11, 20))
      await drained(second, stage)
      const after = await second.status()
      expect(after.epoch).toBe('2')
      expect(after.leader).not.toBe(leader)
      await expectKept(stage)
    },
    limitMs,
  )

  test(
    'that is asked to stop saves, hands over at once and exits with 0',
    async () => {
      await using stage = await openStage(mode)
      await stage.makeTopic()
      // With a lease of five minutes nobody takes over by waiting.
      const lease = { RELAY_LEASE_MS: '300000' }
      await using first = await stage.relay(lease)
      await sendsBy(first, mode)
      await using second = await stage.relay(lease)
      await using writing = await stage.keepWriting(20)
      await advances(first)
      expect(await first.stop('SIGTERM')).toEqual({ code: 0, signal: null })
      await leads(second)
      await advances(second)
      await writing.stop()
      await drained(second, stage)
      await expectKept(stage, mode.savesAllAtStop ? { repeated: 0 } : {})
    },
    limitMs,
  )

  test(
    'that is paused and wakes up after the takeover sends nothing new and stands by',
    async () => {
      await using stage = await openStage(mode)
      await stage.makeTopic()
      await using first = await stage.relay()
      await sendsBy(first, mode)
      await using second = await stage.relay()
      await using writing = await stage.keepWriting(20)
      await advances(first)
      void first.stop('SIGSTOP')
      await leads(second)
      await advances(second)
      void first.stop('SIGCONT')
      await waitUntil(() => first.logged('leading_ended') !== undefined, { what: 'it to notice' })
      await writing.stop()
      await drained(second, stage)
      await expectKept(stage)
      expect(first.lines.filter(({ event }) => event === 'leading')).toHaveLength(1)
    },
    limitMs,
  )
}

function ending(mode: TestedMode): void {
  test('progress that was made on another server: nothing is published', async () => {
    await using stage = await openStage(mode)
    await stage.makeTopic()
    await stage.insert(stage.history(1, 1, 1))
    await using session = await stage.session()
    await session.sql(`update outbox.relay set system_identifier = '1'`)
    await using relay = await stage.relay()
    expect(await relay.exited).toEqual({ code: 1, signal: null })
    expect(relay.logged('process_failed')?.err?.code).toBe('foreign_server')
    expect(await stage.dump()).toEqual([])
  })
}

function waiting(mode: TestedMode): void {
  test('a topic that is not there', async () => {
    await using stage = await openStage(mode)
    await stage.insert(stage.history(2, 1, 3))
    await using relay = await stage.relay()
    const waits = async () => (await relay.status()).lastError?.code === 'publish_failed'
    await waitUntil(waits, { what: 'the failure to be told' })
    expect((await fetch(`${relay.url}/readyz`)).status).toBe(200)
    expect(await relay.status()).toMatchObject({ backlog: 6, parked: { aggregates: 0, events: 0 } })
    expect(relay.lines.some(({ msg }) => /run npm run migrate/.test(msg ?? ''))).toBe(true)
    await stage.makeTopic()
    await drained(relay, stage)
    await expectKept(stage)
  })

  test('its connections cut by the server', async () => {
    await using stage = await openStage(mode)
    await stage.makeTopic()
    await using relay = await stage.relay()
    await sendsBy(relay, mode)
    await using session = await stage.session()
    await using writing = await stage.keepWriting(5)
    for (let cuts = 0; cuts < 3; cuts += 1) {
      await advances(relay)
      await session.sql(`select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid()
          and (application_name like 'sluice-%' or backend_type = 'walsender')`)
    }
    await advances(relay)
    await writing.stop()
    await drained(relay, stage)
    await expectKept(stage)
  })
}

/** With lines and servers that are not shared, since they are made to fail. */
function waitingForServers(mode: TestedMode): void {
  test.runIf(ownServers)(
    'its connections fallen silent: another takes over, and nothing is lost',
    async () => {
      await using stage = await openStage(mode)
      await using proxy = await openProxy(Number(new URL(stage.outbox.relayUrl).port))
      await stage.makeTopic()
      await using first = await stage.relay({
        WRITE_DATABASE_URL: through(stage.outbox.relayUrl, proxy.port),
        ...(mode.name === 'polling'
          ? {}
          : { CDC_DATABASE_URL: through(stage.outbox.cdcUrl, proxy.port) }),
      })
      await sendsBy(first, mode)
      await using second = await stage.relay()
      await using writing = await stage.keepWriting(20)
      await advances(first)
      // Open, and nothing comes through: neither side is told that the other is gone.
      proxy.silence()
      await leads(second)
      await advances(second)
      await waitUntil(() => first.logged('leading_ended') !== undefined, {
        what: 'it to notice',
        deadlineMs: 45_000, // The statement that reads has 35 s to fail.
      })
      proxy.heal()
      await writing.stop()
      await drained(second, stage)
      await expectKept(stage)
    },
    2 * limitMs,
  )

  test.runIf(ownServers)(
    'PostgreSQL stopped fast, which waits for no relay, and killed',
    async () => {
      await using server = await openServer()
      await using stage = await openStage(mode, { outbox: server.place })
      await stage.makeTopic()
      await using relay = await stage.relay()
      await sendsBy(relay, mode)
      for (const [n, away] of [server.stop, server.crash].entries()) {
        await stage.insert(stage.history(10, 10 * n + 1, 10 * n + 10))
        const askedMs = performance.now()
        await away()
        // A walsender that nobody answers would keep it for as long as `wal_sender_timeout`.
        expect(performance.now() - askedMs).toBeLessThan(10_000)
        await waitUntil(async () => (await fetch(`${relay.url}/readyz`)).status === 503, {
          what: 'it to be noticed',
        })
        await server.start()
      }
      await stage.insert(stage.history(10, 21, 30))
      await sendsBy(relay, mode)
      await drained(relay, stage)
      await expectKept(stage)
      expect(relay.logged('step_back')).toBeUndefined()
    },
    limitMs,
  )
}
