// A worker: publishes the records that the relay drains, from memory, in batches of the relay's
// size. Reading them is not timed.
import { openDirectProducer } from 'kafka/direct-producer'
import { type KafkaRecord, openProducer } from 'kafka/producer'
import { encode, type OutboxRow } from 'outbox-relay/wire'
import { connect } from './servers.ts'
import { serveWorker } from './worker.ts'

type Input = { brokers: string[]; url: string; topic: string; producer: string; events: number }

const readRows = 20_000
const batchRows = 1_000

await serveWorker(async ({ brokers, url, topic, producer: name, events }: Input, tick) => {
  await using client = await connect(url)
  const open = name === 'direct' ? openDirectProducer : openProducer
  await using producer = open({ brokers, clientId: 'bench-produce-only' })
  const forever = new AbortController().signal
  let seconds = 0
  let timed = 0
  for (let from = 1; from <= events; from += readRows) {
    const { rows } = await client.query<OutboxRow>({
      text: `select position::text, id::text, aggregatetype, aggregateid, aggregateversion::text,
          type, to_char(occurred_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), source,
          specversion, correlationid, causationid, traceparent, payload::text
        from outbox.events where position between $1 and $2 order by events.position`,
      values: [from, from + readRows - 1],
      rowMode: 'array',
    } as never)
    for (let at = 0; at < rows.length; at += batchRows) {
      const records = rows
        .slice(at, at + batchRows)
        .map((row): KafkaRecord => ({ ...encode(row), topic }))
      const begunMs = performance.now()
      await producer.publish(records, forever)
      // The first batch connects; the relay's first is not timed either.
      if (from === 1 && at === 0) continue
      seconds += (performance.now() - begunMs) / 1_000
      timed += records.length
    }
    tick(`${from} of ${events}`)
  }
  return { perSecond: timed / seconds }
})
