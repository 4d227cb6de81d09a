import { randomUUID } from 'node:crypto'
import { expect, test } from 'vitest'
import { check, type Evidence } from './checker.ts'
import { readFileSync, readdirSync } from 'node:fs'
import type { Quarantined } from './quarantine-log.ts'
import type { LedgerEvent, OutboxRow } from './tables.ts'
import type { TopicRecord } from './topic-reader.ts'

// A small true story, and each promise broken in it once. A checker that finds nothing in one of
// these would find nothing in a drill either.

function outboxRow(position: number, name: string, type: string, after: number) {
  const [account = '', version = ''] = name.split('@')
  const amount = type === 'AccountOpened.v1' ? { overdraftLimit: '0' } : { amount: '10' }
  const id = randomUUID()
  const row: OutboxRow = {
    position: String(position),
    id,
    aggregatetype: 'account',
    aggregateid: account,
    aggregateversion: version,
    type,
    time: '2026-11-21T08:00:00.120000Z',
    source: 'urn:sluice:command-api',
    specversion: '1.0',
    correlationid: `key-${position}`,
    causationid: 'cause',
    traceparent: 'trace',
    payload: JSON.stringify({
      ...amount,
      after: {
        ledgerBalance: String(after),
        held: '0',
        available: String(after),
        status: 'open',
      },
    }),
  }
  return row
}

function recordOf(row: OutboxRow, offset: number): TopicRecord {
  return {
    partition: 3,
    offset: BigInt(offset),
    appendedMs: 1_000 + offset,
    key: row.aggregateid,
    value: row.payload,
    headers: [
      ['id', row.id],
      ['ce_type', row.type],
      ['ce_sequence', row.aggregateversion],
      ['ce_time', row.time],
      ['ce_source', row.source],
      ['ce_specversion', row.specversion],
      ['ce_id', row.id],
      ['ce_correlationid', row.correlationid],
      ['ce_causationid', row.causationid],
      ['traceparent', row.traceparent],
      ['content-type', 'application/json'],
    ],
  }
}

function eventOf(row: OutboxRow): LedgerEvent {
  return {
    account_id: row.aggregateid,
    version: row.aggregateversion,
    id: row.id,
    type: row.type,
    payload: row.payload,
    correlationid: row.correlationid,
    outbox_position: row.position,
  }
}

const account = (id: string, balance: string, version: string) => ({
  id,
  status: 'open',
  ledger_balance: balance,
  held: '0',
  overdraft_limit: '0',
  version,
})

/** Two accounts, opened; one given 10 twice; one event repeated at the end. */
function story() {
  const outbox = [
    outboxRow(1, 'a@1', 'AccountOpened.v1', 0),
    outboxRow(2, 'b@1', 'AccountOpened.v1', 0),
    outboxRow(4, 'a@2', 'FundsDeposited.v1', 10),
    outboxRow(5, 'a@3', 'FundsDeposited.v1', 20),
  ]
  const entry = (version: number, row: number) => ({
    transaction_id: `t-${row}`,
    account_id: 'a',
    account_version: String(version),
    currency: 'EUR',
    amount: '10',
  })
  const cash = { account_id: 'sluice-cash-EUR', account_version: null, amount: '-10' }
  const [one, two] = [entry(2, 4), entry(3, 5)]
  const command = (kind: 'open' | 'deposit', row: number, version: number | null) => ({
    key: `key-${row}`,
    kind,
    account: row === 2 ? 'b' : 'a',
    amount: kind === 'open' ? 0n : 10n,
    sentMs: 0,
    first: 'ok' as const,
    final: 'ok' as const,
    status: 201,
    version,
  })
  const evidence = {
    tables: {
      outbox,
      events: [outbox[0]!, outbox[2]!, outbox[3]!, outbox[1]!].map(eventOf),
      accounts: [account('a', '20', '3'), account('b', '0', '1')],
      entries: [one, { ...one, ...cash }, two, { ...two, ...cash }],
      readAccounts: [
        { ...account('a', '20', '3'), available: '20', last_event_id: outbox[3]!.id },
        { ...account('b', '0', '1'), available: '0', last_event_id: outbox[1]!.id },
      ],
      progress: { next: 6n, gaps: [] as (readonly [bigint, bigint])[] },
    },
    records: [...outbox.map(recordOf), recordOf(outbox[2]!, 4)],
    samples: [{ next: 5n, gaps: [[2n, 3n] as const], atMs: 1_002 }],
    history: [
      command('open', 1, 1),
      command('deposit', 4, 2),
      command('deposit', 5, 3),
      command('open', 2, 1),
    ],
    quarantined: [] as Quarantined[],
  } satisfies Evidence
  return evidence
}

/** The same, and then 10 from a to b by one command. */
function storyWithTransfer() {
  const told = story()
  const { tables, history } = told
  const out = outboxRow(6, 'a@4', 'FundsTransferredOut.v1', 10)
  const into = { ...outboxRow(7, 'b@2', 'FundsTransferredIn.v1', 10), correlationid: 'key-6' }
  tables.outbox.push(out, into)
  tables.events.splice(3, 0, eventOf(out))
  tables.events.push(eventOf(into))
  const half = { ...tables.entries[0]!, transaction_id: 't-6' }
  tables.entries.push({ ...half, account_version: '4', amount: '-10' })
  tables.entries.push({ ...half, account_id: 'b' })
  tables.accounts = [account('a', '10', '4'), account('b', '10', '2')]
  tables.readAccounts = [
    { ...account('a', '10', '4'), available: '10', last_event_id: out.id },
    { ...account('b', '10', '2'), available: '10', last_event_id: into.id },
  ]
  tables.progress.next = 8n
  told.records.push(recordOf(out, 5), recordOf(into, 6))
  const sent = { key: 'key-6', kind: 'transfer' as const, account: 'a', to: 'b', amount: 10n }
  const transfer = { ...history[1]!, ...sent, version: 4 }
  return { ...told, history: [...history, transfer], transfer }
}

const broken = (evidence: Evidence) => [
  ...new Set(check(evidence).findings.map(({ promise }) => promise)),
]

test('a true story breaks no promise, and its figures are right', () => {
  const { findings, figures } = check(story())
  expect(findings).toEqual([])
  expect(figures).toEqual({
    committed: 4,
    delivered: 4,
    repeated: 1,
    lost: 0,
    phantom: 0,
    outOfOrder: 0,
    repeats: [{ firstMs: 1_002, atMs: 1_004 }],
    moneyDrift: 0n,
  })
})

type Story = ReturnType<typeof story>
const breaches: [what: string, promise: string, breach: (told: Story) => void][] = [
  ['a row that never reached the topic', 'I1', (told) => told.records.splice(1, 1)],
  [
    'an event of the ledger without its outbox row',
    'I1',
    (told) => told.tables.outbox.splice(1, 1),
  ],
  [
    'a record without a row',
    'I2',
    (told) => told.records.push(recordOf(outboxRow(9, 'b@2', 'FundsDeposited.v1', 10), 9)),
  ],
  ['a record whose value was rewritten', 'I2', (told) => (told.records[2]!.value += ' ')],
  [
    'a header that is missing',
    'I2',
    (told) => (told.records[0]!.headers = told.records[0]!.headers.slice(0, 10)),
  ],
  [
    'two versions the wrong way round',
    'I3',
    (told) => told.records.splice(2, 2, told.records[3]!, told.records[2]!),
  ],
  ['an account in two partitions', 'I3', (told) => (told.records[3]!.partition = 4)],
  [
    'an old event applied again, though the balance is right',
    'I4',
    (told) => (told.tables.readAccounts[0]!.last_event_id = told.tables.outbox[2]!.id),
  ],
  ['an account that was not projected', 'I4', (told) => told.tables.readAccounts.splice(1, 1)],
  [
    'an amount added twice in the read model',
    'I5',
    (told) => (told.tables.readAccounts[0]!.ledger_balance = '30'),
  ],
  [
    'a read model that says that more is available than there is',
    'I5',
    (told) => (told.tables.readAccounts[0]!.available = '999'),
  ],
  [
    'a read model that holds money back which nothing held',
    'I5',
    (told) => (told.tables.readAccounts[0]!.held = '7'),
  ],
  [
    'an account that came into quarantine, though the repair has mended it',
    'I4',
    (told) => told.quarantined.push({ atMs: 1_000, account: 'a', what: 'version_gap' }),
  ],
  ['an account row that is not the fold', 'I5', (told) => (told.tables.accounts[1]!.version = '2')],
  ['a version that is missing', 'I5', (told) => told.tables.events.splice(1, 1)],
  ['a transaction that does not sum to zero', 'I6', (told) => told.tables.entries.splice(1, 1)],
  ['money on one side only', 'I6', (told) => (told.tables.readAccounts[1]!.ledger_balance = '1')],
  [
    'a balance below its limit',
    'I6',
    (told) => (told.tables.events[1]!.type = 'FundsWithdrawn.v1'),
  ],
  [
    'a command answered ok that is not there',
    'I7',
    (told) => told.history.push({ ...told.history[1]!, key: 'key-9' }),
  ],
  [
    'a command refused that is there',
    'I7',
    (told) => Object.assign(told.history[1]!, { final: 'refused' }),
  ],
  [
    'a command never resolved',
    'I7',
    (told) => Object.assign(told.history[1]!, { final: 'unknown' }),
  ],
  ['an answer with another version', 'I7', (told) => (told.history[1]!.version = 3)],
  [
    'a deposit on one account whose event is on another',
    'I7',
    (told) => (told.history[1]!.account = 'b'),
  ],
  [
    'a command carried out once more under a key that nobody sent',
    'I7',
    (told) => {
      const row = outboxRow(6, 'b@2', 'FundsDeposited.v1', 10)
      const { tables, records } = told
      tables.outbox.push(row)
      tables.events.push(eventOf(row))
      records.push(recordOf(row, 5))
      Object.assign(tables.accounts[1]!, { ledger_balance: '10', version: '2' })
      Object.assign(tables.readAccounts[1]!, {
        ledger_balance: '10',
        available: '10',
        version: '2',
        last_event_id: row.id,
      })
      const into = { ...tables.entries[0]!, transaction_id: 't-6', account_id: 'b' }
      tables.entries.push(into, { ...into, account_id: 'sluice-cash-EUR', amount: '-10' })
      tables.progress.next = 7n
    },
  ],
  [
    'progress saved before Kafka had it',
    'I9',
    (told) => told.samples.push({ next: 6n, gaps: [[2n, 3n]], atMs: 1_001 }),
  ],
  ['progress over a row that Kafka never got', 'I9', (told) => told.records.splice(3, 1)],
]

test.each(breaches)('%s breaks %s', (_what, promise, breach) => {
  const told = story()
  breach(told)
  expect(broken(told)).toContain(promise)
})

test('what waited of a parked account may be beyond progress and fetched by the read side, and no other', () => {
  const told: Evidence = story()
  const early = { next: 6n, gaps: [[2n, 3n] as const], atMs: 1_001 }
  const quarantined = [{ atMs: 0, account: 'a', what: 'lost_tail' }]
  const late = { ...told, samples: [early], quarantined }
  expect(broken(late)).toEqual(['I9', 'I4'])
  expect(broken({ ...late, parked: new Set(['b']) })).toEqual(['I9', 'I4'])
  expect(broken({ ...late, parked: new Set(['a']) })).toEqual([])
})

test('a transfer is one event on each account, under one key', () => {
  expect(broken(storyWithTransfer())).toEqual([])
  const elsewhere = storyWithTransfer()
  elsewhere.transfer.to = 'a'
  expect(broken(elsewhere)).toEqual(['I7'])
  const payees = storyWithTransfer()
  payees.transfer.version = 2
  expect(broken(payees)).toEqual(['I7'])
  const halved = storyWithTransfer()
  halved.tables.events.pop()
  expect(broken(halved)).toEqual(expect.arrayContaining(['I2', 'I5', 'I7']))
})

test('the checker imports nothing of the product', () => {
  const folder = new URL('./', import.meta.url)
  const own = [
    'quarantine-log.ts',
    'checker.ts',
    'delivery-check.ts',
    'account-check.ts',
    'history-check.ts',
  ]
  const read = [...own, 'history.ts', 'findings.ts', 'topic-reader.ts', 'tables.ts', 'sql.ts']
  const names = read.flatMap((file) =>
    [...readFileSync(new URL(file, folder), 'utf8').matchAll(/from '([^']+)'/g)].map(
      (one) => one[1],
    ),
  )
  expect(names.filter((name) => !/^(\.\/|node:|(?:kafkajs|pg)$)/.test(name ?? ''))).toEqual([])
  expect(readdirSync(folder)).toEqual(expect.arrayContaining(read))
})
