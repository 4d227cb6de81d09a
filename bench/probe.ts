// A worker: one-row transactions at a fixed rate, and a consumer of their topic beside it. For each
// event, how long from its commit (PostgreSQL's own timestamp of it) until the consumer has it.
import { randomUUID } from 'node:crypto'
import { runConsumer } from 'kafka/consumer'
import { pause } from 'service/backoff'
import { connect } from './servers.ts'
import { serveWorker } from './worker.ts'

type ProbeInput = {
  brokers: string[]
  url: string
  /** Its topic must exist. */
  aggregateType: string
  perSecond: number
  events: number
  /** Of these nothing is measured. */
  warmUp: number
}

export type ProbeResult = { latenciesMs: number[] }

const deadlineMs = 30_000

const insertText = `insert into outbox.events (id, aggregatetype, aggregateid, aggregateversion,
    type, payload, source, specversion, traceparent, correlationid, causationid, occurred_at)
  values ($1::uuid, $2, $3, 1, 'FundsDeposited.v1', $4, 'urn:sluice:command-api', '1.0',
    '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', $3, $3, clock_timestamp())`

const committedText = `select id::text, extract(epoch from pg_xact_commit_timestamp(xmin)) * 1000
    as ms from outbox.events where aggregatetype = $1`

await serveWorker(async (input: ProbeInput, tick): Promise<ProbeResult> => {
  const { brokers, url, aggregateType, perSecond, events, warmUp } = input
  await using client = await connect(url)
  const seenMs = new Map<string, number>()
  const stop = new AbortController()
  // Also where this fails: a consumer that goes on keeps the process alive.
  using stopping = new DisposableStack()
  stopping.defer(() => stop.abort())
  const consuming = runConsumer({
    brokers,
    groupId: `bench-probe-${randomUUID()}`,
    topic: `${aggregateType}-events`,
    signal: stop.signal,
    onBatch: async ({ records }) => {
      const nowMs = performance.timeOrigin + performance.now()
      for (const { headers } of records) {
        const id = String(headers.id)
        if (!seenMs.has(id)) seenMs.set(id, nowMs)
      }
      return { next: (records.at(-1)?.offset ?? -1n) + 1n }
    },
  })
  const ids: string[] = []
  const beginMs = performance.now()
  for (let number = 0; number < events; number += 1) {
    const earlyMs = beginMs + (number / perSecond) * 1_000 - performance.now()
    if (earlyMs > 0) await pause(earlyMs)
    const id = randomUUID()
    ids.push(id)
    await client.query({
      name: 'probe',
      text: insertText,
      values: [id, aggregateType, `probe-${number}`, `{"n":${number}}`],
    })
    tick(`${number} of ${events} probes`)
  }
  const lastMs = performance.now()
  while (seenMs.size < events && performance.now() - lastMs < deadlineMs) await pause(20)
  stop.abort()
  await consuming
  if (seenMs.size !== events) throw new Error(`${seenMs.size} of ${events} probes arrived`)
  const { rows } = await client.query<{ id: string; ms: string }>(committedText, [aggregateType])
  const committedMs = new Map(rows.map(({ id, ms }) => [id, Number(ms)]))
  const latencyOf = (id: string) => (seenMs.get(id) ?? NaN) - (committedMs.get(id) ?? NaN)
  return { latenciesMs: ids.slice(warmUp).map(latencyOf) }
})
