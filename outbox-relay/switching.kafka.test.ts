import { waitUntil } from 'local-stack/wait-until'
import { expect, test } from 'vitest'
import { known } from './test-modes.ts'
import type { Session } from './test-outbox.ts'
import type { RelayAnswer, RelayProcess } from './test-relay.ts'
import { advances, drained, leads, openStage, sendsBy, type Stage } from './test-stage.ts'
import { kept } from './test-topic.ts'

const { polling, wal } = known
// The row decides: nothing is asked by a variable.
const unasked = { RELAY_MODE: '' }

const until = (relay: RelayProcess, what: string, holds: (status: RelayAnswer) => boolean) =>
  waitUntil(
    async () => {
      const status = await relay.status()
      return holds(status) && status
    },
    { what, deadlineMs: 30_000 },
  )

const held = (relay: RelayProcess, pid: string) =>
  until(relay, 'it to say for whom it waits', ({ switching }) =>
    (switching?.waitingFor ?? '').includes(`pid ${pid}`),
  )

const pidOf = async ({ client }: Session) => {
  const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid')
  return String(rows[0]?.pid)
}

async function auditOf(stage: Stage) {
  await using session = await stage.session()
  const { rows } = await session.client.query<{ line: string }>(
    `select concat_ws(' ', action, before, 'to', after, 'by', actor, reason) as line
       from outbox.audit where action in ('switch_asked', 'switch_cancelled', 'mode_changed')
      order by id`,
  )
  return rows.map(({ line }) => line)
}

async function slotsOf(stage: Stage): Promise<number> {
  await using session = await stage.session()
  const { rows } = await session.client.query(
    'select from pg_replication_slots where database = current_database()',
  )
  return rows.length
}

test('polling and wal are switched there and back under load, whichever relay is asked', async () => {
  await using stage = await openStage(wal)
  await stage.makeTopic()
  await using writing = await stage.keepWriting(20)
  await using leader = await stage.relay(unasked)
  await leads(leader)
  const { epoch } = await leader.status()
  await using standby = await stage.relay(unasked)
  expect(await standby.ask('wal', 'more of it')).toMatchObject({
    status: 202,
    body: { mode: 'polling', switching: { to: 'wal' } },
  })
  await sendsBy(leader, wal)
  await advances(leader)
  expect(await standby.status()).toMatchObject({ mode: 'wal', switching: null })
  await leader.ask('polling')
  await sendsBy(leader, polling)
  await advances(leader)
  await leader.ask('wal')
  await sendsBy(leader, wal)
  await writing.stop()
  await drained(leader, stage)
  expect(await leader.status()).toMatchObject({ epoch })
  expect(await stage.findings()).toMatchObject(kept)
  expect(await auditOf(stage)).toEqual([
    'switch_asked polling to wal by anonymous more of it',
    'mode_changed polling to wal by anonymous more of it',
    'switch_asked wal to polling by anonymous',
    'mode_changed wal to polling by anonymous',
    'switch_asked polling to wal by anonymous',
    'mode_changed polling to wal by anonymous',
  ])
}, 60_000)

test('a switch waits for an open transaction, says for whom, is cancelled, and then made', async () => {
  await using stage = await openStage(wal)
  await stage.makeTopic()
  await using writing = await stage.keepWriting(5)
  await using relay = await stage.relay(unasked)
  await leads(relay)
  await using open = await stage.session()
  await open.sql('begin')
  await open.insert(...stage.history(1, 1, 1))
  await relay.ask('wal')
  const { switching } = await held(relay, await pidOf(open))
  expect(switching).toMatchObject({
    to: 'wal',
    step: 'make slot',
    waitingFor: expect.stringMatching(
      /open, the oldest pid \d+, for \d+ s, its last statement began \d{4}-/,
    ),
  })
  expect(await relay.status()).toMatchObject({ mode: 'polling', source: 'polling' })
  await advances(relay)
  expect(await relay.cancel()).toEqual({ status: 200, body: { mode: 'polling', switching: null } })
  await waitUntil(async () => (await slotsOf(stage)) === 0, { what: 'the slot to go' })
  await advances(relay)
  await relay.ask('wal')
  await held(relay, await pidOf(open))
  await open.sql('commit')
  await sendsBy(relay, wal)
  await writing.stop()
  await drained(relay, stage)
  expect(await stage.findings()).toMatchObject(kept)
  expect((await auditOf(stage)).map((line) => line.split(' ')[0])).toEqual([
    'switch_asked',
    'switch_cancelled',
    'switch_asked',
    'mode_changed',
  ])
}, 60_000)

test('a leader that is killed in the middle of a switch has a successor that finishes it', async () => {
  await using stage = await openStage(wal)
  await stage.makeTopic()
  await using writing = await stage.keepWriting(10)
  await using leader = await stage.relay(unasked)
  await leads(leader)
  await using successor = await stage.relay(unasked)
  await using open = await stage.session()
  await open.sql('begin')
  await open.insert(...stage.history(1, 1, 1))
  await leader.ask('wal')
  await held(successor, await pidOf(open))
  await leader.stop('SIGKILL')
  await leads(successor)
  await held(successor, await pidOf(open))
  await open.sql('rollback')
  await sendsBy(successor, wal)
  await writing.stop()
  await drained(successor, stage)
  expect(await stage.findings()).toMatchObject(kept)
  expect(await slotsOf(stage)).toBe(1)
}, 60_000)

test('whoever changes their mind quickly gets what was asked for last', async () => {
  await using stage = await openStage(wal)
  await stage.makeTopic()
  await using writing = await stage.keepWriting(10)
  await using relay = await stage.relay(unasked)
  await leads(relay)
  for (const mode of ['wal', 'polling', 'wal', 'polling', 'wal']) {
    expect((await relay.ask(mode)).status).toBeLessThan(300)
    await advances(relay)
  }
  await sendsBy(relay, wal)
  await writing.stop()
  await drained(relay, stage)
  expect(await relay.status()).toMatchObject({ mode: 'wal', switching: null })
  expect(await stage.findings()).toMatchObject(kept)
}, 60_000)

test('what cannot be is refused at once, and what is so already is no switch', async () => {
  await using stage = await openStage(polling)
  await using relay = await stage.relay(unasked)
  await leads(relay)
  expect(await relay.ask('wal')).toMatchObject({
    status: 409,
    body: { code: 'mode_unavailable', detail: expect.stringMatching(/CDC_DATABASE_URL/) },
  })
  expect(await relay.ask('fax')).toMatchObject({ status: 400, body: { code: 'invalid_request' } })
  expect(await relay.ask('wal', 'x')).toMatchObject({ status: 400 })
  expect(await relay.cancel()).toMatchObject({ status: 404, body: { code: 'no_switch' } })
  expect(await relay.ask('polling')).toEqual({
    status: 200,
    body: { mode: 'polling', switching: null },
  })
  expect(await auditOf(stage)).toEqual([])
}, 30_000)
