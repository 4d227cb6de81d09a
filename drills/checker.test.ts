import { expect, test } from 'vitest'
import { check, type Evidence } from './checker.ts'
import type { LedgerAccount } from './tables.ts'
import * as stories from './test-story.ts'

// A small true story, and each promise broken in it once. A checker that finds nothing in one of
// these would find nothing in a drill either. Each breach is as small as it can be, so that one check
// alone finds it: one that is taken out of the checker fails a test here.

const { account, command, outboxRow, recordOf, story, tell } = stories
const { resay, storyWithHolds, storyWithTransfer } = stories
type Story = stories.Story

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
    repeats: [{ position: 4n, firstMs: 1_002, atMs: 1_004 }],
    moneyDrift: 0n,
  })
})

const [soonest, latest] = ['2026-11-21T08:00:00.000Z', '2026-11-21T08:00:09.000Z']

type Breach = [what: string, promise: string, breach: (told: Story) => void]

const deliveryBreaches: Breach[] = [
  ['a row that never reached the topic', 'I1', (told) => told.records.splice(1, 1)],
  [
    'an event of the ledger without its outbox row',
    'I1',
    (told) => told.tables.outbox.splice(1, 1),
  ],
  [
    'an event that the outbox has at another position',
    'I1',
    (told) => (told.tables.events[1]!.outbox_position = '9'),
  ],
  [
    'an event that the outbox has with another payload',
    'I1',
    (told) => (told.tables.events[1]!.payload += ' '),
  ],
  [
    'an outbox row that is in no account',
    'I2',
    ({ tables, records }) => {
      const row = outboxRow(6, 'b@2', 'FundsDeposited.v1', { balance: 10 })
      tables.outbox.push(row)
      records.push(recordOf(row, 5))
    },
  ],
  [
    'a record without a row',
    'I2',
    (told) => told.records.push(recordOf(outboxRow(9, 'b@2', 'FundsDeposited.v1', {}), 9)),
  ],
  ['a record whose value was rewritten', 'I2', (told) => (told.records[2]!.value += ' ')],
  ['a record whose key is another', 'I2', (told) => (told.records[1]!.key = 'c')],
  [
    'a header that is missing',
    'I2',
    (told) => (told.records[0]!.headers = told.records[0]!.headers.slice(0, 10)),
  ],
  [
    'a header too many',
    'I2',
    (told) => (told.records[0]!.headers = [...told.records[0]!.headers, ['more', '1']]),
  ],
  [
    'a header of another name',
    'I2',
    ({ records: [, record] }) => {
      record!.headers = record!.headers.map(([name, value]) => [
        name === 'ce_source' ? 'source' : name,
        value,
      ])
    },
  ],
  [
    'two versions the wrong way round',
    'I3',
    (told) => told.records.splice(2, 2, told.records[3]!, told.records[2]!),
  ],
  ['an account in two partitions', 'I3', (told) => (told.records[3]!.partition = 4)],
  [
    'progress saved before Kafka had it',
    'I9',
    (told) => told.samples.push({ next: 6n, gaps: [[2n, 3n]], atMs: 1_001 }),
  ],
  ['progress over a row that Kafka never got', 'I9', (told) => told.records.splice(3, 1)],
]

const headerBreaches = recordOf(outboxRow(1, 'a@1', 'AccountOpened.v1', {}), 0).headers.map(
  ([changed]): Breach => [
    `another value of the header ${changed}`,
    'I2',
    ({ records: [, record] }) => {
      record!.headers = record!.headers.map(([name, value]) => [
        name,
        name === changed ? `${value}0` : value,
      ])
    },
  ],
)

/** An event that says of the account after it what is not so. */
const saysBreaches = ['ledgerBalance', 'held', 'available', 'status'].map((field): Breach => [
  `an event that says another ${field}`,
  'I5',
  ({ tables: { events } }) => {
    const payload = JSON.parse(events[1]!.payload) as { after: object }
    Object.assign(payload.after, { [field]: '7' })
    events[1]!.payload = JSON.stringify(payload)
  },
])

const columns: [column: keyof LedgerAccount, value: string][] = [
  ['owner', 'Mallory'],
  ['currency', 'USD'],
  ['exponent', '0'],
  ['type', 'savings'],
  ['status', 'closed'],
  ['frozen', 'all'],
  ['ledger_balance', '30'],
  ['held', '7'],
  ['overdraft_limit', '50'],
  ['metadata', '{"desk": 8, "branch": "north"}'],
  ['version', '4'],
]
const columnBreaches = columns.flatMap(([column, value]): Breach[] => [
  [
    `a write side with another ${column} than the fold's`,
    'I5',
    (told) => Object.assign(told.tables.accounts[0]!, { [column]: value }),
  ],
  [
    `a read model with another ${column} than the fold's`,
    'I5',
    (told) => Object.assign(told.tables.readAccounts[0]!, { [column]: value }),
  ],
])

const accountBreaches: Breach[] = [
  [
    'an old event applied again, though the balance is right',
    'I4',
    (told) => (told.tables.readAccounts[0]!.last_event_id = told.tables.outbox[2]!.id),
  ],
  ['a read model behind', 'I4', (told) => (told.tables.readAccounts[0]!.version = '2')],
  ['an account that was not projected', 'I4', (told) => told.tables.readAccounts.splice(1, 1)],
  [
    'an account that came into quarantine, though the repair has mended it',
    'I4',
    (told) => told.quarantined.push({ atMs: 1_000, account: 'a', what: 'version_gap' }),
  ],
  [
    'a read model that says that more is available than there is',
    'I5',
    (told) => (told.tables.readAccounts[0]!.available = '999'),
  ],
  [
    'a read model of an account without events',
    'I5',
    ({ tables }) =>
      tables.readAccounts.push({ ...account('c'), available: '0', last_event_id: '' }),
  ],
  ['an account row that is missing', 'I5', (told) => told.tables.accounts.splice(1, 1)],
  ['an account row without events', 'I5', (told) => (told.tables.accounts[1]!.id = 'c')],
  [
    'a version that is missing',
    'I5',
    (told) => tell(told, outboxRow(6, 'b@3', 'FundsDeposited.v1', { balance: 10 })),
  ],
  ['an unknown event', 'I5', (told) => tell(told, outboxRow(6, 'b@2', 'FundsConjured.v1', {}))],
  ['a transaction that does not sum to zero', 'I6', (told) => told.tables.entries.splice(1, 1)],
  [
    'a transaction that does so only over two currencies',
    'I6',
    (told) => (told.tables.entries[1]!.currency = 'USD'),
  ],
  [
    'a balance that its entries do not make',
    'I6',
    ({ tables: { entries } }) => {
      entries[0]!.amount = '7'
      entries[1]!.amount = '-7'
    },
  ],
  ['money on one side only', 'I6', (told) => (told.tables.readAccounts[1]!.ledger_balance = '1')],
  [
    'a balance below its limit',
    'I6',
    (told) => (told.tables.events[1]!.type = 'FundsWithdrawn.v1'),
  ],
]

const commandBreaches: Breach[] = [
  [
    'a command answered ok that is not there',
    'I7',
    (told) => told.history.push({ ...told.history[1]!, key: 'key-9', version: null }),
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
  ['an answer with another amount', 'I7', (told) => (told.history[1]!.amount = 11n)],
  [
    'a deposit on one account whose event is on another',
    'I7',
    (told) => Object.assign(told.history[1]!, { account: 'b', version: null }),
  ],
  ['a withdrawal whose event is a deposit', 'I7', (told) => (told.history[1]!.kind = 'withdraw')],
  [
    'a command carried out once more under a key that nobody sent',
    'I7',
    (told) => tell(told, outboxRow(6, 'b@2', 'FundsDeposited.v1', { balance: 10 })),
  ],
]

const breaches = [
  ...deliveryBreaches,
  ...headerBreaches,
  ...saysBreaches,
  ...columnBreaches,
  ...accountBreaches,
  ...commandBreaches,
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

test('a heartbeat is of no account', () => {
  const told = story()
  const row = outboxRow(6, 'sluice-heartbeat-9@1', 'Heartbeat.v1', {})
  told.tables.outbox.push(row)
  told.records.push(recordOf(row, 5))
  expect(broken(told)).toEqual([])
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

test('an account that is opened with a deposit, emptied and closed breaks nothing', () => {
  const told = story()
  const opened = outboxRow(6, 'c@1', 'AccountOpened.v1', {})
  const given = outboxRow(7, 'c@2', 'FundsDeposited.v1', { balance: 10 })
  tell(told, opened)
  tell(told, { ...given, correlationid: opened.correlationid })
  tell(told, outboxRow(8, 'c@3', 'FundsWithdrawn.v1', {}))
  tell(told, outboxRow(9, 'c@4', 'AccountClosed.v1', { status: 'closed', amount: undefined }))
  told.history.push({ ...command('open', 6, 'c@2'), amount: 10n })
  told.history.push(command('withdraw', 8, 'c@3'), command('close', 9, 'c@4'))
  expect(check(told).findings).toEqual([])
})

test('new details, a freeze and another limit are folded', () => {
  const told = story()
  const details = { owner: 'Grace', metadata: { desk: 8 } }
  const asRow = { owner: 'Grace', metadata: '{"desk": 8}' }
  tell(told, outboxRow(6, 'b@2', 'AccountDetailsUpdated.v1', details), asRow)
  const limit = { overdraftLimit: '50', available: 50 }
  tell(told, outboxRow(7, 'b@3', 'OverdraftLimitChanged.v1', limit), { overdraft_limit: '50' })
  const drawn = { balance: -10, available: 40 }
  tell(told, outboxRow(8, 'b@4', 'FundsWithdrawn.v1', drawn))
  tell(told, outboxRow(9, 'b@5', 'AccountFrozen.v1', { ...drawn, scope: 'debits' }), {
    frozen: 'debits',
  })
  tell(told, outboxRow(10, 'b@6', 'AccountUnfrozen.v1', drawn), { frozen: null })
  told.history.push({ ...command('limit', 7, 'b@3'), amount: 50n })
  told.history.push(command('withdraw', 8, 'b@4'), command('freeze', 9, 'b@5'))
  told.history.push(command('unfreeze', 10, 'b@6'))
  // Nobody is known to have sent the details.
  expect(broken(told)).toEqual(['I7'])
})

test('holds and a reversal are folded', () => {
  expect(check(storyWithHolds()).findings).toEqual([])
})

const holdBreaches: Breach[] = [
  ['a hold captured for more than it is', 'I5,I6', (told) => resay(told, 5, { released: '7' })],
  ['a hold captured after its time', 'I6', (told) => resay(told, 4, { expiresAt: soonest })],
  ['a hold that expires before its time', 'I6', (told) => resay(told, 6, { expiresAt: latest })],
  ['a hold that ends twice', 'I6', (told) => resay(told, 7, { holdId: 'hold-1' })],
  ['a hold that ends and was never placed', 'I6', (told) => resay(told, 7, { holdId: 'hold-3' })],
  ['a hold placed twice', 'I6', (told) => resay(told, 6, { holdId: 'hold-1' })],
  [
    'a hold whose row says that it is still active',
    'I6',
    ({ tables: { holds } }) => (holds[1]!.status = 'active'),
  ],
  [
    'a hold whose row has another amount',
    'I6',
    ({ tables: { holds } }) => (holds[1]!.amount = '6'),
  ],
  ['a hold without its row', 'I6', ({ tables: { holds } }) => holds.pop()],
  [
    'a row of a hold that has no events',
    'I6',
    ({ tables: { holds } }) =>
      holds.push({ id: 'hold-3', account_id: 'a', amount: '1', status: 'active' }),
  ],
  [
    'a transaction that is reversed twice',
    'I6',
    (told) => {
      const again = { reversedTransactionId: 't-key-7', direction: 'credit', amount: '4' }
      tell(told, outboxRow(11, 'a@9', 'TransactionReversed.v1', { ...again, balance: 24 }))
      told.history.push({ ...command('reverse', 11, 'a@9'), amount: 4n })
    },
  ],
  ['a reversal the wrong way', 'I5', (told) => resay(told, 8, { direction: 'debit' })],
  [
    'more held than there is',
    'I6',
    (told) => {
      const held = { holdId: 'hold-3', amount: '30', expiresAt: latest, balance: 20, held: 30 }
      tell(told, outboxRow(11, 'a@9', 'HoldPlaced.v1', held))
      told.history.push({ ...command('hold', 11, 'a@9'), amount: 30n })
      told.tables.holds.push({ id: 'hold-3', account_id: 'a', amount: '30', status: 'active' })
    },
  ],
]

test.each(holdBreaches)('%s breaks %s', (_what, promise, breach) => {
  const told = storyWithHolds()
  breach(told)
  expect(broken(told).toSorted().join()).toBe(promise)
})

test.each([
  ['limit', 'OverdraftLimitChanged.v1', { overdraftLimit: '50', available: 50 }],
  ['details', 'AccountDetailsUpdated.v1', { owner: 'Drill 50', metadata: { desk: 8 } }],
] as const)('an answer with another %s than its event breaks I7', (kind, type, said) => {
  const told = story()
  tell(told, outboxRow(6, 'b@2', type, said))
  told.history.push({ ...command(kind, 6, 'b@2'), amount: 50n })
  expect(broken(told)).not.toContain('I7')
  told.history.at(-1)!.amount = 51n
  expect(broken(told)).toContain('I7')
})
