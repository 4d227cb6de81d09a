import fc from 'fast-check'
import { type KafkaRecord, RecordRefused } from 'kafka/producer'
import { expect, test } from 'vitest'
import { oneAtATime, ParkedAggregates, sendOrHold } from './parking.ts'
import type { OutboxRow } from './wire.ts'

const rowOf = (aggregate: string, version: number, position: number): OutboxRow => {
  const [at, number] = [String(position), String(version)]
  return [at, at, 'account', aggregate, number, 'T.v1', 't', 's', '1.0', 'c', 'd', 'p', '{}']
}

/** A Kafka that refuses some events, by aggregate and version, and says so as a producer does. */
function kafkaRefusing(refuses: (name: string) => boolean) {
  const got: string[] = []
  const nameOf = ({ key, headers }: KafkaRecord) => `${key}@${headers[2]?.[1]}`
  const send = async (records: readonly KafkaRecord[]) => {
    for (const [index, record] of records.entries()) {
      if (refuses(nameOf(record))) throw new RecordRefused({ index, record, reason: 'INVALID' })
      got.push(nameOf(record))
    }
  }
  return { got, send }
}

const nameOf = (row: OutboxRow) => `${row[3]}@${row[4]}`

test('a refusal holds its aggregate, in this batch and the next, and lets all others through', async () => {
  const { got, send } = kafkaRefusing((name) => name === 'a@2')
  const parked = new ParkedAggregates()
  const first = [rowOf('a', 1, 1), rowOf('a', 2, 2), rowOf('b', 1, 3), rowOf('a', 3, 4)]
  const { sent, held } = await sendOrHold(first, { send, parked })
  expect(sent.map(nameOf)).toEqual(['a@1', 'b@1'])
  expect(held.rows.map(nameOf)).toEqual(['a@2', 'a@3'])
  expect(held.refused).toMatchObject([{ row: first[1], reason: 'INVALID' }])
  const second = await sendOrHold([rowOf('a', 4, 5), rowOf('b', 2, 6)], { send, parked })
  expect(second.held.rows.map(nameOf)).toEqual(['a@4'])
  expect(second.held.refused).toEqual([])
  expect(got).toEqual(['a@1', 'b@1', 'b@2'])
})

test('types keep aggregates of one id apart', async () => {
  const { send } = kafkaRefusing(() => false)
  const parked = new ParkedAggregates([{ aggregateType: 'operation', aggregateId: 'a' }])
  const { held } = await sendOrHold([rowOf('a', 1, 1)], { send, parked })
  expect(held.rows).toEqual([])
})

test('what is no refusal is thrown, and parks nothing', async () => {
  const parked = new ParkedAggregates()
  const send = async () => {
    throw new Error('Kafka is away, and the relay is to stop')
  }
  await expect(sendOrHold([rowOf('a', 1, 1)], { send, parked })).rejects.toThrow('away')
  expect(parked.size).toBe(0)
})

test('whatever is refused: each aggregate is sent up to there, and held from there on, in order', async () => {
  const aggregates = ['a', 'b', 'c']
  const history = fc.array(fc.record({ of: fc.constantFrom(...aggregates), bad: fc.boolean() }))
  await fc.assert(
    fc.asyncProperty(history, fc.array(fc.integer({ min: 1, max: 5 })), async (events, cuts) => {
      const bad = new Set<string>()
      const versions = new Map<string, number>()
      const rows = events.map((event, n) => {
        const version = (versions.get(event.of) ?? 0) + 1
        versions.set(event.of, version)
        if (event.bad) bad.add(`${event.of}@${version}`)
        return rowOf(event.of, version, n + 1)
      })
      const { got, send } = kafkaRefusing((name) => bad.has(name))
      const parked = new ParkedAggregates()
      const held: string[] = []
      for (let at = 0, turn = 0; at < rows.length; turn += 1) {
        const size = cuts[turn] ?? 3
        const batch = await sendOrHold(rows.slice(at, at + size), { send, parked })
        held.push(...batch.held.rows.map(nameOf))
        at += size
      }
      for (const aggregate of aggregates) {
        const all = rows.filter((row) => row[3] === aggregate).map(nameOf)
        const from = all.findIndex((name) => bad.has(name))
        const cut = from === -1 ? all.length : from
        const ofIt = (names: readonly string[]) => names.filter((name) => name[0] === aggregate)
        expect(ofIt(got)).toEqual(all.slice(0, cut))
        expect(ofIt(held)).toEqual(all.slice(cut))
        expect(parked.has({ aggregateType: 'account', aggregateId: aggregate })).toBe(from !== -1)
      }
    }),
  )
})

test('work is done in turn, and goes on after what has failed', async () => {
  const inTurn = oneAtATime()
  const done: string[] = []
  const step = (name: string, fails = false) =>
    inTurn(async () => {
      done.push(`${name} begins`)
      await new Promise(setImmediate)
      done.push(`${name} ends`)
      if (fails) throw new Error(name)
    })
  const all = await Promise.allSettled([step('one'), step('two', true), step('three')])
  expect(all.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
  expect(done.map((what) => what.split(' ')[0])).toEqual([
    'one',
    'one',
    'two',
    'two',
    'three',
    'three',
  ])
})
