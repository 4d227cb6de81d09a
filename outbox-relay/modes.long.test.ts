import { expect, test } from 'vitest'
import { known, type TestedMode } from './test-modes.ts'
import { advances, drained, openStage, sendsBy, type Stage } from './test-stage.ts'
import { kept } from './test-topic.ts'

const { polling, wal, debezium } = known

// Each of the six directions once, and back to where it began.
const round: readonly TestedMode[] = [polling, wal, polling, debezium, wal, debezium, polling]

const changes = async (stage: Stage) => {
  await using session = await stage.session()
  const { rows } = await session.client.query<{ change: string; reason: string }>(
    `select before || ' to ' || after as change, reason from outbox.audit
      where action = 'mode_changed' order by id`,
  )
  return rows
}

test('RELAY_MODE acts when it has changed; otherwise the row decides, whatever was restarted', async () => {
  await using stage = await openStage(wal)
  await stage.makeTopic()
  const inMode = async (mode: TestedMode, variable?: string) => {
    // An empty variable is one that is not given.
    await using relay = await stage.relay({ RELAY_MODE: variable ?? '' })
    await sendsBy(relay, mode)
    expect((await relay.stop('SIGTERM')).code).toBe(0)
  }
  await inMode(polling, 'polling')
  await inMode(wal, 'wal')
  await inMode(wal)
  await using session = await stage.session()
  await session.sql("update outbox.relay set mode = 'polling'")
  await inMode(polling, 'wal')
  const changed = await changes(stage)
  expect(changed).toEqual([{ change: 'polling to wal', reason: 'RELAY_MODE is wal' }])
}, 120_000)

test('in all six directions under load, by restarts gentle and not, all is kept', async () => {
  await using stage = await openStage(debezium)
  await stage.makeTopic()
  await using writing = await stage.keepWriting(20)
  for (const [n, mode] of round.entries()) {
    await using relay = await stage.relay(await mode.environment(stage.outbox))
    await sendsBy(relay, mode)
    await advances(relay)
    await relay.stop(n % 2 === 0 ? 'SIGTERM' : 'SIGKILL')
  }
  await writing.stop()
  await using relay = await stage.relay({ RELAY_MODE: 'polling' })
  await drained(relay, stage)
  expect(await stage.findings()).toMatchObject(kept)
  expect((await changes(stage)).map(({ change }) => change)).toEqual(
    round.slice(1).map(({ name }, n) => `${round[n]?.name} to ${name}`),
  )
}, 180_000)
