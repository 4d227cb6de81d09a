import { randomUUID } from 'node:crypto'
import { openProducer } from 'kafka/producer'
import { testBrokers } from 'local-stack/test-databases'
import { expect, test } from 'vitest'
import { checkVersions, newTopic } from './topic-check.ts'

// The check that stands between a wrong run and its speed, given topics that are wrong.

type Sent = [account: string, version: number, id: string]

async function check(sent: Sent[]) {
  const topic = `bench-check-${randomUUID()}`
  await newTopic(testBrokers(), topic)
  await using producer = openProducer({ brokers: testBrokers(), clientId: 'bench-check' })
  const records = sent.map(([key, version, id]) => ({
    topic,
    key,
    value: `{"id":"${id}"}`,
    headers: [['id', id] as const, ['ce_sequence', String(version)] as const],
  }))
  await producer.publish(records, AbortSignal.timeout(20_000))
  return checkVersions(testBrokers(), topic, { accounts: 1, versions: 3 })
}

test('a topic as it should be, with a repeat, is right', async () => {
  expect(
    await check([
      ['a', 1, 'x'],
      ['a', 2, 'y'],
      ['a', 1, 'x'],
      ['a', 3, 'z'],
    ]),
  ).toEqual({ repeats: 1 })
})

test.each<[string, Sent[]]>([
  [
    'a version that is missing',
    [
      ['a', 1, 'x'],
      ['a', 3, 'z'],
    ],
  ],
  [
    'the last version missing',
    [
      ['a', 1, 'x'],
      ['a', 2, 'y'],
    ],
  ],
  [
    'versions the wrong way round',
    [
      ['a', 2, 'y'],
      ['a', 1, 'x'],
      ['a', 3, 'z'],
    ],
  ],
  [
    'another event under a version that was there',
    [
      ['a', 1, 'x'],
      ['a', 2, 'y'],
      ['a', 2, 'other'],
      ['a', 3, 'z'],
    ],
  ],
])('%s is a violation', async (_what, sent) => {
  await expect(check(sent)).rejects.toMatchObject({ code: 'violation' })
})
