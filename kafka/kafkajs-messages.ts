import assert from 'node:assert'
import type { IHeaders, Message } from 'kafkajs'
import { partitionOf } from './partition.ts'
import type { KafkaRecord } from './record.ts'

/** kafkajs's own default gives the same partition, at several times the cost. */
export function partitionByKey({
  partitionMetadata,
  message,
}: {
  partitionMetadata: readonly unknown[]
  message: Message
}): number {
  assert(message.key !== null && message.key !== undefined, 'a record without a key')
  return partitionOf(message.key, partitionMetadata.length)
}

/** One list of messages per topic, each in the order given. */
export function messagesByTopic(records: readonly KafkaRecord[]): Map<string, Message[]> {
  const topics = new Map<string, Message[]>()
  for (const { topic, key, value, headers } of records) {
    const message = { key, value, headers: headersOf(headers) }
    const messages = topics.get(topic)
    if (messages === undefined) topics.set(topic, [message])
    else messages.push(message)
  }
  return topics
}

/** An object keeps the order of its names, except of those that look like array indexes. */
function headersOf(headers: KafkaRecord['headers']): IHeaders {
  const named: IHeaders = {}
  for (const [name, value] of headers) {
    assert(!Object.hasOwn(named, name) && !/^\d/.test(name), `header ${name} would lose its place`)
    named[name] = value
  }
  return named
}
