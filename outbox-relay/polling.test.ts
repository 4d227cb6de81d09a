import { type KafkaRecord, RecordRefused } from 'kafka/producer'
import { describe, expect, test } from 'vitest'
import type { Batch } from './cursor.ts'
import { poll, type Polling } from './polling.ts'
import { afterReading, type Progress } from './progress.ts'
import { type Held, oneAtATime, ParkedAggregates } from './parking.ts'
import { openPublishing } from './publishing.ts'
import type { OutboxRow } from './wire.ts'

const start: Progress = { next: 1n, gaps: [] }

function rowAt(position: bigint): OutboxRow {
  const text = String(position)
  return [text, `id-${text}`, 'account', 'a', text, 'T.v1', 't', 's', '1.0', 'c', 'd', 'p', '{}']
}

function batchOf(before: Progress, positions: readonly bigint[]): Batch {
  const after = afterReading(before, { positions, complete: true })
  const batch = { rows: positions.map(rowAt), positions: [...positions], payloadBytes: 0 }
  return { ...batch, complete: true, sentMs: 0, before, after }
}

type Send = (records: readonly KafkaRecord[]) => Promise<void>

/**
 * Polls a list of batches, then stops. What happens is kept in the order in which it happened;
 * publishing takes a while, so that whatever does not wait for it comes before its end.
 */
function polled(
  batches: readonly (readonly bigint[])[],
  { send, ...changes }: Partial<Polling> & { send?: Send } = {},
) {
  const happened: string[] = []
  const stop = new AbortController()
  const remaining = [...batches]
  const saver = {
    offer: ({ next }: Progress, held?: Held) => {
      const rows = held?.rows.map((row) => row[4]) ?? []
      happened.push(`save ${next}${rows.length === 0 ? '' : ` with ${rows.join()} held`}`)
    },
    flush: async () => void happened.push('flush'),
    full: false,
  }
  const sendSlowly: Send = async (records) => {
    const names = records.map(({ headers }) => headers[2]?.[1]).join()
    happened.push(`send ${names}`)
    for (let turn = 0; turn < 20; turn += 1) await Promise.resolve()
    happened.push(`confirmed ${names}`)
  }
  const polling: Polling = {
    start,
    read: async (progress) => {
      happened.push(`read from ${progress.next}`)
      const positions = remaining.shift() ?? []
      return batchOf(progress, positions)
    },
    publish: openPublishing({
      send: send ?? sendSlowly,
      parked: new ParkedAggregates(),
      inTurn: oneAtATime(),
      saver,
      onPublished: () => {},
      now: () => 0,
    }),
    saver,
    assertHeld: () => {},
    onIdle: () => stop.abort(),
    busyMs: 1,
    idleMs: 1,
    stop: stop.signal,
    ...changes,
  }
  return { happened, done: poll(polling) }
}

test('a batch is read while the one before is in flight, and sent only once that is confirmed', async () => {
  const { happened, done } = polled([[1n, 2n], [3n], []])
  await done
  expect(happened).toEqual([
    'read from 1',
    'read from 3',
    'send 1,2',
    'confirmed 1,2',
    'save 3',
    'read from 4',
    'send 3',
    'confirmed 3',
    'save 4',
    'save 4',
    'read from 4',
    'flush',
  ])
})

test('what was published is saved at the second read that finds nothing, if not before', async () => {
  const stop = new AbortController()
  let idle = 0
  const onIdle = () => (idle += 1) === 2 && stop.abort()
  const { happened, done } = polled([[1n], [], []], { onIdle, stop: stop.signal })
  await done
  expect(happened.slice(happened.indexOf('confirmed 1'))).toEqual([
    'confirmed 1',
    'save 2',
    'save 2',
    'read from 2',
    'save 2',
    'flush',
    'read from 2',
    'flush',
  ])
})

test('what is not confirmed is not saved', async () => {
  const send = async () => {
    throw new Error('stopped')
  }
  const { happened, done } = polled([[1n, 2n]], { send })
  await expect(done).rejects.toThrow('stopped')
  expect(happened.filter((what) => what.startsWith('save'))).toEqual([])
})

test('without the lease nothing is sent', async () => {
  const assertHeld = () => {
    throw new Error('not leading')
  }
  const { happened, done } = polled([[1n, 2n]], { assertHeld })
  await expect(done).rejects.toThrow('not leading')
  expect(happened).toEqual(['read from 1'])
})

describe('an event that Kafka refuses', () => {
  const refusing = (version: string) => async (records: readonly KafkaRecord[]) => {
    const index = records.findIndex(({ headers }) => headers[2]?.[1] === version)
    const record = records[index]
    if (record !== undefined) throw new RecordRefused({ index, record, reason: 'INVALID_RECORD' })
  }

  test('is held with all that comes after it of its aggregate, which was read before', async () => {
    const { happened, done } = polled([[1n, 4n, 5n], [6n], []], { send: refusing('4') })
    await done
    expect(happened.filter((what) => what.startsWith('save'))).toEqual([
      'save 6 with 4,5 held',
      'save 7 with 6 held',
      'save 7',
    ])
  })

  test('is held with all of its batch when it is the first', async () => {
    const { happened, done } = polled([[3n, 4n], []], { send: refusing('3') })
    await done
    expect(happened).toContain('save 5 with 3,4 held')
  })
})

test('a read that fails while a batch is in flight is heard of after that batch is confirmed', async () => {
  let reads = 0
  const read = async (progress: Progress) => {
    reads += 1
    if (reads === 2) throw new Error('connection lost')
    return batchOf(progress, [1n])
  }
  const { happened, done } = polled([], { read })
  await expect(done).rejects.toThrow('connection lost')
  expect(happened).toEqual(['send 1', 'confirmed 1', 'save 2'])
})
