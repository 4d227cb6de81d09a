import { waitUntil } from 'local-stack/wait-until'
import { openPool, type Pool } from 'migrations/database'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type TestOutbox, testOutbox } from '../test-outbox.ts'
import { Election } from './election.ts'

let outbox: TestOutbox
beforeEach(async () => {
  outbox = await testOutbox()
})
afterEach(() => outbox[Symbol.asyncDispose]())

const poolOf = (settings: Record<string, string> = {}): Pool =>
  openPool({
    url: outbox.maintenanceUrl,
    applicationName: 'test-election',
    maxConnections: 2,
    settings,
    onError: () => {}, // The statement that was running reports it.
  })

test('of two that are due at once one is elected, and once it has ended the other may be', async () => {
  await using first = poolOf()
  await using second = poolOf()
  const [one, other] = [new Election(first), new Election(second)]
  const elected = await Promise.all([one.shouldRun(), other.shouldRun()])
  expect(elected.filter(Boolean)).toHaveLength(1)
  const [winner, loser] = elected[0] ? [one, other] : [other, one]
  await winner.assertElected()
  await expect(loser.assertElected()).rejects.toThrow('not elected')
  expect(await loser.shouldRun()).toBe(false)
  await winner.onComplete()
  expect(await loser.shouldRun()).toBe(true)
  await loser.onComplete()
})

test('one that dies frees it, and one that sleeps loses it and knows before its next step', async () => {
  await using sleepy = poolOf({ idle_in_transaction_session_timeout: '300ms' })
  await using second = poolOf()
  const [asleep, other] = [new Election(sleepy), new Election(second)]
  expect(await asleep.shouldRun()).toBe(true)
  await waitUntil(() => other.shouldRun(), { what: 'the server to end the sleeper' })
  await expect(asleep.assertElected()).rejects.toThrow(/not queryable|terminat|timeout/)
  await asleep.onComplete()
  await using superuser = await outbox.superuser()
  await superuser.sql(`select pg_terminate_backend(pid) from pg_stat_activity
    where application_name = 'test-election' and state = 'idle in transaction'
      and datname = current_database()`)
  await waitUntil(() => asleep.shouldRun(), { what: 'the lock of the dead to be free' })
  await asleep.onComplete()
  await other.onComplete()
})
