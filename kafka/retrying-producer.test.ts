import { expect, test } from 'vitest'
import type { KafkaRecord } from './record.ts'
import { RetryingProducer, type Sender } from './retrying-producer.ts'

const record = (index: number): KafkaRecord => ({
  topic: 't',
  key: `key-${index}`,
  value: 'x',
  headers: [['id', String(index)]],
})

const settings = { brokers: [], clientId: 'test', backoff: { firstMs: 1, capMs: 1 } }

test('a producer that is disposed of publishes nothing more', async () => {
  const sent: string[] = []
  let giveUp: (error: Error) => void = () => {}
  // As both real ones: a send under way fails when it is discarded, and the next one begins anew.
  const sender: Sender = {
    async send(records) {
      const given = new Promise<never>((_resolve, reject) => (giveUp = reject))
      await Promise.race([given, new Promise((resolve) => setTimeout(resolve, 2))])
      sent.push(...records.map(({ key }) => key))
    },
    discard: () => giveUp(new Error('discarded')),
    closed: async () => {},
  }
  const producer = new RetryingProducer({ ...settings, requestLimitBytes: 100 }, sender)
  const records = Array.from({ length: 50 }, (_, n) => record(n))
  const publishing = producer.publish(records, AbortSignal.timeout(5_000)).catch(() => {})
  while (sent.length < 5) await new Promise((resolve) => setTimeout(resolve, 1))
  await producer[Symbol.asyncDispose]()
  const before = sent.length
  await publishing
  expect(sent.length - before).toBe(0)
})
