// A worker: part d's fixed reference. What a deposit writes, as one statement and one commit each,
// over pg, with nothing around it: no HTTP, no parsing, no access key, no lookup of the key.
import { randomBytes, randomUUID } from 'node:crypto'
import { openPool } from 'migrations/database'
import { percentile } from './rounds.ts'
import { serveWorker } from './worker.ts'

type Input = {
  url: string
  connections: number
  accountPrefix: string
  accounts: number
  warmUpSeconds: number
  seconds: number
}

const depositText = `
with account as (
  update ledger.accounts set ledger_balance = ledger_balance + $2::bigint, version = version + 1,
    as_of = $4 where id = $1
  returning *, ledger_balance - held + overdraft_limit as available
), event as (
  select *, json_build_object('accountId', id, 'transactionId', $3::uuid, 'amount', $2::bigint::text,
    'currency', currency, 'reference', null, 'effectiveAt', $4::timestamptz, 'after',
    json_build_object('version', version, 'ledgerBalance', ledger_balance::text, 'held', held::text,
      'available', available::text, 'status', status)) as payload
  from account
), queued as (
  insert into outbox.events (id, aggregatetype, aggregateid, aggregateversion, type, payload,
    source, specversion, traceparent, correlationid, causationid, occurred_at)
  select $5, 'account', id, version, 'FundsDeposited.v1', payload, 'urn:sluice:command-api', '1.0',
    $6, $7, $8, $4 from event
  returning position
), recorded as (
  insert into ledger.account_events (account_id, version, id, type, payload, outbox_position,
    traceparent, correlationid, causationid, occurred_at)
  select event.id, version, $5, 'FundsDeposited.v1', payload, position, $6, $7, $8, $4
  from event, queued
), entry as (
  insert into ledger.entries (transaction_id, account_id, account_version, currency, amount,
    effective_at, recorded_at)
  select $3, id, version, currency, $2::bigint, $4::timestamptz, $4::timestamptz from account
  union all
  select $3, 'sluice-cash-' || currency, null, currency, -$2::bigint, $4, $4 from account
)
insert into ledger.idempotency (caller, key, fingerprint, status, body, etag, token, answered_at)
select 'bench', $9, $10, 201, json_build_object('transactionId', $3::uuid, 'account',
    json_build_object('id', id, 'owner', owner, 'currency', currency, 'exponent', exponent,
      'type', type, 'status', status, 'freeze', frozen, 'ledgerBalance', ledger_balance::text,
      'held', held::text, 'available', available::text, 'overdraftLimit', overdraft_limit::text,
      'metadata', metadata, 'version', version, 'openedAt', opened_at, 'asOf', as_of)),
  '"' || version || '"', 'v1.' || id || version, $4 from account`

await serveWorker(async (input: Input, tick) => {
  const { url, connections, accountPrefix, accounts, warmUpSeconds, seconds } = input
  await using pool = openPool({
    url,
    applicationName: 'bench-raw',
    maxConnections: connections,
    settings: { synchronous_commit: 'on' },
    onError: () => {}, // The statement that was running reports it.
  })
  const fingerprint = randomBytes(32)
  const beginMs = performance.now()
  const fromMs = beginMs + warmUpSeconds * 1_000
  const untilMs = fromMs + seconds * 1_000
  const latencies: number[] = []
  let answered = 0
  const drive = async () => {
    const client = await pool.connect()
    for (;;) {
      const sentMs = performance.now()
      if (sentMs >= untilMs) break
      const id = `${accountPrefix}${Math.floor(Math.random() * accounts)}`
      const [transaction, event, correlation, command] = [1, 2, 3, 4].map(() => randomUUID())
      const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'
      const at = new Date().toISOString()
      await client.query({
        name: 'deposit',
        text: depositText,
        values: [
          id,
          '100',
          transaction,
          at,
          event,
          traceparent,
          correlation,
          command,
          command,
          fingerprint,
        ],
      })
      answered += 1
      const nowMs = performance.now()
      if (sentMs >= fromMs && nowMs <= untilMs) latencies.push(nowMs - sentMs)
      if (answered % 1_000 === 0) tick(`${answered} deposits`)
    }
    client.release()
  }
  await Promise.all(Array.from({ length: connections }, drive))
  const sorted = latencies.toSorted((a, b) => a - b)
  const { user, system } = process.cpuUsage()
  return {
    answered,
    perSecond: latencies.length / seconds,
    p50Ms: percentile(sorted, 0.5),
    p99Ms: percentile(sorted, 0.99),
    cores: (user + system) / 1_000 / (performance.now() - beginMs),
  }
})
