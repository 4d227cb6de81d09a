import { findJava, type ServiceName, waitUntil } from 'local-stack'
import { expect, test } from 'vitest'
import { DrillStack, type LineName } from './stack.ts'

// A line that swallows everything tells nobody that it does. Whoever waits on it for ever answers
// nobody, and cannot be stopped.

const cases: readonly { service: ServiceName; line: LineName }[] = [
  { service: 'query-api', line: 'query-postgres' },
  { service: 'query-api', line: 'query-kafka' },
  { service: 'command-api', line: 'command-postgres' },
  { service: 'outbox-relay', line: 'relay-postgres' },
  { service: 'outbox-relay', line: 'relay-kafka' },
]

const stopLimitMs = 20_000

test.skipIf('missing' in findJava(process.env))(
  'a service whose line is silent still stops when it is told to',
  async () => {
    await using stack = await DrillStack.start({})
    for (const { service, line } of cases) {
      const target = stack.services[service]
      await silence(stack, line)
      const before = target.endings.length
      target.kill('SIGTERM')
      const reached = await target.endingsReach(before + 1, stopLimitMs).catch(() => false)
      expect([service, line, reached, target.endings[before]?.code]).toEqual([
        service,
        line,
        true,
        0,
      ])
      stack.lines[line].heal()
      await target.answers()
    }
  },
  300_000,
)

test.skipIf('missing' in findJava(process.env))(
  'reads are answered while the line to PostgreSQL is silent, and rightly once it is not',
  async () => {
    await using stack = await DrillStack.start({})
    const { url } = stack.services['query-api']
    const opened = await fetch(`${stack.commandUrl}/accounts`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', 'Idempotency-Key': 'open-1' },
      body: JSON.stringify({ owner: 'Ada', currency: 'EUR', type: 'current' }),
    })
    expect(opened.status).toBe(201)
    const { id } = (await opened.json()) as { id: string }
    const token = opened.headers.get('Consistency-Token') ?? ''
    const read = () =>
      fetch(`${url}/accounts/${id}`, {
        headers: { 'Consistency-Token': token, Prefer: 'wait=1' },
        // One look that finds the line dead, one that cannot connect.
        signal: AbortSignal.timeout(15_000),
      }).then(({ status }) => status)
    await waitUntil(async () => (await read()) === 200, {
      what: 'the account to be read',
      deadlineMs: 20_000,
    })
    stack.lines['query-postgres'].begin({ kind: 'half-open' })
    expect(await Promise.all(Array.from({ length: 20 }, read))).toEqual(Array(20).fill(503))
    stack.lines['query-postgres'].heal()
    await waitUntil(async () => (await read()) === 200, {
      what: 'the account to be read again',
      deadlineMs: 20_000,
    })
  },
  120_000,
)

async function silence(stack: DrillStack, line: LineName): Promise<void> {
  const proxy = stack.lines[line]
  const before = proxy.swallowedBytes
  proxy.begin({ kind: 'half-open' })
  await waitUntil(() => proxy.swallowedBytes > before, {
    what: `something to be swallowed on ${line}`,
    deadlineMs: 15_000,
  })
}
