import { waitUntil } from 'local-stack/wait-until'
import { describe, expect, test } from 'vitest'
import { openForwarder } from './test-forwarder.ts'
import { testedModes } from './test-modes.ts'
import { connect } from './test-outbox.ts'
import type { RelayProcess } from './test-relay.ts'
import { openServer, ownServers, placeAt } from './test-server.ts'
import { drained, leads, openStage, sendsBy, type Stage } from './test-stage.ts'
import { kept } from './test-topic.ts'

// A server that takes commits back which were published (`server-history.ts`). What is lost with it
// cannot be brought back; nothing else may be.

const accounts = 5

describe.runIf(ownServers).each(testedModes)('in mode $name', (mode) => {
  test('a standby that lagged is promoted: all of it again, then what is new', async () => {
    await using primary = await openServer()
    await using standby = await primary.openStandby()
    await using forwarder = await openForwarder(primary.port)
    const address = new URL(primary.place.superuserUrl)
    address.port = String(forwarder.port)
    await using stage = await openStage(mode, { outbox: placeAt(address.href) })
    await stage.makeTopic()
    await using relay = await stage.relay()
    await sendsBy(relay, mode)
    await stage.insert(stage.history(accounts, 1, 5))
    await drained(relay, stage)
    await using follower = await connect(standby.url('sluice_write'))
    const follows = async () => (await count(follower)) === accounts * 5
    await waitUntil(follows, { what: 'the standby to follow' })
    await follower.sql(`alter system set primary_conninfo = ''`)
    await follower.sql('select pg_reload_conf()')
    const cutOff = async () => {
      const { rowCount } = await follower.client.query('select from pg_stat_wal_receiver')
      return rowCount === 0
    }
    await waitUntil(cutOff, { what: 'the standby to be cut off' })
    await stage.insert(stage.history(accounts, 6, 8))
    await drained(relay, stage)

    await primary.crash()
    await follower.sql('select pg_promote()')
    forwarder.pointTo(standby.port)
    await stage.insert(stage.history(accounts, 6, 7))
    await saysSo(relay, stage, /timeline 2.*timeline 1/)
    await sendsBy(relay, mode)
    await stage.insert(stage.history(accounts, 8, 9))
    await drained(relay, stage)
    // The three that are lost stay in the topic; the versions after them come again, as other events.
    const found = await stage.findings()
    expect(found).toMatchObject({ ...kept, phantom: accounts * 3, outOfOrder: expect.any(Number) })
    expect(found.repeated).toBeGreaterThanOrEqual(accounts * 5)
    expect(await lastVersions(stage)).toEqual(new Set(['9']))
  }, 120_000)

  test.each(['the leader', 'another relay'])(
    'an older copy of the files is back, and %s of before finds out',
    async (who) => {
      await using server = await openServer()
      await using stage = await openStage(mode, { outbox: server.place })
      await stage.makeTopic()
      await using leader = await stage.relay()
      await sendsBy(leader, mode)
      await stage.insert(stage.history(accounts, 1, 5))
      await drained(leader, stage)
      await server.stop()
      const putBack = server.setAside()
      await server.start()
      await using other = await stage.relay()
      await sendsBy(leader, mode)
      await stage.insert(stage.history(accounts, 6, 8))
      await drained(leader, stage)
      // One that has seen nothing newer than the copy cannot know, and has nothing to be wrong about.
      if (who === 'another relay') await standbyLooks(stage)
      const relay = who === 'the leader' ? leader : other
      if (relay === other) await leader.stop('SIGKILL')
      else await other.stop('SIGKILL')

      await server.stop()
      putBack()
      await server.start()
      // More than were lost: no position tells that anything happened.
      await stage.insert(stage.history(accounts, 6, 12))
      await saysSo(relay, stage, /this process had/)
      await drained(relay, stage)
      expect(await stage.findings()).toMatchObject({
        ...kept,
        phantom: accounts * 3,
        outOfOrder: expect.any(Number),
      })
      expect(await lastVersions(stage)).toEqual(new Set(['12']))
    },
    120_000,
  )

  test('a crash with positions drawn and rolled back at the end is no reason for alarm', async () => {
    await using server = await openServer()
    await using stage = await openStage(mode, { outbox: server.place })
    await stage.makeTopic()
    await using relay = await stage.relay()
    await sendsBy(relay, mode)
    await stage.insert(stage.history(accounts, 1, 5))
    await using session = await stage.session()
    await session.sql('begin')
    await session.insert(...stage.history(3, 6, 6))
    await session.sql('rollback')
    await session.sql('begin')
    await session.insert(...stage.history(3, 6, 6))
    await server.crash()
    await server.start()
    await using second = await stage.relay()
    await stage.insert(stage.history(accounts, 6, 8))
    await drained(relay, stage)
    await relay.stop('SIGTERM')
    await leads(second)
    await drained(second, stage)
    expect(await stage.findings()).toMatchObject(kept)
    for (const each of [relay, second]) expect(each.logged('step_back')).toBeUndefined()
  }, 60_000)
})

async function count({ client }: Awaited<ReturnType<typeof connect>>): Promise<number> {
  const { rows } = await client.query<{ n: number }>('select count(*)::int as n from outbox.events')
  return rows[0]?.n ?? 0
}

/** The lease has been renewed, and after that the relay that stands by, which alone looks, has looked. */
async function standbyLooks(stage: Stage): Promise<void> {
  await using session = await stage.session()
  const first = async (text: string, values: unknown[] = []) =>
    (await session.client.query<{ found: string }>(text, values)).rows[0]?.found
  const renewal = () => first('select renewal as found from outbox.relay')
  const before = await renewal()
  await waitUntil(async () => (await renewal()) !== before, { what: 'the lease to be renewed' })
  const renewed = await first('select clock_timestamp()::text as found')
  const looked = `select pid as found from pg_stat_activity
    where application_name = 'sluice-relay' and query like '%pg_control_system%'
      and state = 'idle' and query_start > $1`
  const looks = async () => (await first(looked, [renewed])) !== undefined
  await waitUntil(looks, { what: 'a look at the lease', intervalMs: 20 })
}

/** By the log, the metric and the audit: all three, once. */
async function saysSo(relay: RelayProcess, stage: Stage, reason: RegExp): Promise<void> {
  const says = () => relay.logged('step_back')
  const line = await waitUntil(says, { what: 'the step back to be told', deadlineMs: 30_000 })
  expect(line).toMatchObject({ level: 'error', msg: expect.stringMatching(reason) })
  await using session = await stage.session()
  const audit = async () => {
    const { rows } = await session.client.query<{ after: string; reason: string }>(
      "select after, reason from outbox.audit where action = 'progress_reset'",
    )
    return rows.length > 0 && rows
  }
  expect(await waitUntil(audit, { what: 'the audit' })).toEqual([
    { after: '1', reason: expect.stringMatching(reason) },
  ])
  const metrics = await (await fetch(`${relay.url}/metrics`)).text()
  expect(metrics).toMatch(/^sluice_relay_step_backs_total(\{.*\})? 1$/m)
}

/** The version that each account's records end with. */
async function lastVersions(stage: Stage): Promise<Set<string>> {
  const last = new Map<string, string>()
  for (const { key, headers } of await stage.dump()) last.set(key, headers[2]?.[1] ?? '')
  return new Set(last.values())
}
