import { randomUUID } from 'node:crypto'
import { findRecord } from 'kafka/consumer'
import { Client } from 'pg'
import { z } from 'zod'
import { StackError } from './errors.ts'
import { waitUntil } from './wait-until.ts'

export type SampleOptions = {
  commandApiUrl: string
  queryApiUrl: string
  /** undefined while AUTH is off. */
  accessKey: string | undefined
  /** Of a role that may read the outbox. */
  writeUrl: string
  brokers: string[]
  signal: AbortSignal
  /** Milliseconds that only move forward. */
  now?: () => number
}

/**
 * Where one event was seen, and how many milliseconds after the command was sent. Kafka has none:
 * looking for the record takes longer than the record took.
 */
export type SampleTrace = {
  account: string
  committedMs: number
  position: string
  partition: number
  offset: bigint
  projectedMs: number
}

const topic = 'account-events'
const deadlineMs = 30_000
const openedSchema = z.object({ id: z.string() })

/**
 * Opens one account and follows its first event: committed in the outbox, published to Kafka, read
 * from the query API. Throws `sample_failed`, naming the stage that was not reached.
 */
export async function followSample(options: SampleOptions): Promise<SampleTrace> {
  const now = options.now ?? (() => performance.now())
  const sentAt = now()
  const { account, token } = await open(options)
  const committedMs = now() - sentAt
  const deadline = AbortSignal.any([options.signal, AbortSignal.timeout(deadlineMs)])
  const [position, record, projectedMs] = await Promise.all([
    stage('the outbox', readPosition(options.writeUrl, account)),
    stage('Kafka', findRecord({ brokers: options.brokers, topic, key: account, signal: deadline })),
    stage('the query API', read(options, { account, token, signal: deadline })).then(
      () => now() - sentAt,
    ),
  ])
  return { account, committedMs, position, ...record, projectedMs }
}

/** The proof line. */
export function describeTrace(trace: SampleTrace): string {
  const ms = (value: number) => `${Math.round(value)} ms`
  return [
    `${trace.account}: committed ${ms(trace.committedMs)}`,
    `outbox position ${trace.position}`,
    `${topic}-${trace.partition}@${trace.offset}`,
    `read from the projection ${ms(trace.projectedMs)}`,
  ].join(' → ')
}

async function open(options: SampleOptions): Promise<{ account: string; token: string }> {
  const response = await fetch(`${options.commandApiUrl}/accounts`, {
    method: 'POST',
    headers: {
      ...authorization(options.accessKey),
      'Content-Type': 'application/json',
      'Idempotency-Key': randomUUID(),
    },
    body: JSON.stringify({ owner: 'Sample', currency: 'EUR', openingDeposit: '1000' }),
    signal: AbortSignal.any([options.signal, AbortSignal.timeout(deadlineMs)]),
  })
  const body = await response.text()
  const token = response.headers.get('Consistency-Token')
  if (response.status !== 201 || token === null) {
    throw new StackError('sample_failed', `opening an account gave ${response.status} ${body}`)
  }
  return { account: openedSchema.parse(JSON.parse(body)).id, token }
}

async function readPosition(writeUrl: string, account: string): Promise<string> {
  const client = new Client({ connectionString: writeUrl })
  await client.connect()
  try {
    const { rows } = await client.query<{ position: string }>(
      'select min(position) as position from outbox.events where aggregateid = $1',
      [account],
    )
    const position = rows[0]?.position
    if (position === undefined || position === null) throw new Error(`no row of ${account}`)
    return position
  } finally {
    await client.end()
  }
}

async function read(
  { queryApiUrl, accessKey }: SampleOptions,
  { account, token, signal }: { account: string; token: string; signal: AbortSignal },
): Promise<void> {
  const headers = {
    ...authorization(accessKey),
    'Consistency-Token': token,
    Prefer: 'wait=10',
  }
  await waitUntil(
    async () => {
      const response = await fetch(`${queryApiUrl}/accounts/${account}`, { headers, signal })
      const body = await response.text()
      if (response.status !== 200) throw new Error(`${response.status} ${body}`)
      // 200 that says `stale` is an answer from before the write.
      return response.headers.get('Consistency') !== 'stale'
    },
    { what: `account ${account}`, deadlineMs, signal },
  )
}

function authorization(accessKey: string | undefined): Record<string, string> {
  return accessKey === undefined ? {} : { Authorization: `Bearer ${accessKey}` }
}

async function stage<T>(name: string, work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (cause) {
    throw new StackError(
      'sample_failed',
      `the sample account did not come as far as ${name}: ${(cause as Error).message}`,
      { cause },
    )
  }
}
