import assert from 'node:assert/strict'
import { hash } from 'node:crypto'
import type { ClientBase } from 'pg'
import type { Account } from './account.ts'
import type { Answer } from './answer.ts'
import type { Hold, Transaction } from './books.ts'
import { entriesOf } from './entries.ts'
import type { AccountEvent } from './events.ts'

// The SQL of one batch of commands, in two round trips: begin, the keys' locks and one read; one write
// and commit. Statements are sent without waiting for the answer to the one before (the pool's
// `pipeline`), and named, so that each connection plans them once.

/** A caller's key, which makes a command safe to send again. */
export type CommandKey = { caller: string; key: string }

type StoredAnswer = CommandKey & { fingerprint: Buffer; answer: Answer }

/** An event with what its record will say beside it. */
export type RecordedEvent = {
  id: string
  event: AccountEvent
  traceparent: string
  correlationId: string
  causationId: string
}

/** Everything that one batch writes. */
export type BatchWrite = {
  events: readonly RecordedEvent[]
  /** Accounts as they end, with the version they began at; 0 for those opened here. */
  accounts: readonly { account: Account; fromVersion: number }[]
  /** Holds that were placed or ended. */
  holds: readonly Hold[]
  answers: readonly (StoredAnswer & { answeredAt: string })[]
}

/** The advisory lock that stands for a key: 64 bits of its hash. */
export const lockNumber = ({ caller, key }: CommandKey) =>
  hash('sha256', `${caller}\0${key}`, 'buffer').readBigInt64BE(0)

/** What a batch decides on. */
export type BatchState = {
  /** Of each key, whether this transaction got its lock. */
  held: boolean[]
  /** Answers already given under these keys. */
  answers: StoredAnswer[]
  /** Those of the accounts that exist, locked; those of the transactions too. */
  accounts: Map<string, Account>
  holds: Map<string, Hold>
  transactions: Map<string, Transaction>
}

/** The ids of what a batch decides on. */
export type NamedIds = Record<'accounts' | 'holds' | 'transactions', readonly string[]>

type StateRow = {
  durable: string
  held: boolean[]
  answers: AnswerRow[] | null
  accounts: AccountRow[] | null
  holds: HoldRow[] | null
  lines: LineRow[] | null
}

type AnswerRow = CommandKey & { fingerprint: string } & Omit<Answer, 'replayed'>

type AccountRow = Record<'id' | 'owner' | 'currency' | 'ledger_balance' | 'held', string> & {
  exponent: number
  type: Account['type']
  status: Account['status']
  frozen: Account['freeze']
  overdraft_limit: string
  metadata: Record<string, unknown>
  version: string
  opened_at: string
  as_of: string
}

type HoldRow = Record<'id' | 'account_id' | 'amount' | 'expires_at', string> & {
  status: Hold['status']
}

type LineRow = Record<'id' | 'account_id' | 'currency' | 'amount', string> & {
  reversed_by: string | null
  reverses: boolean
}

// One statement under one snapshot; rows come as JSON, amounts in it as text. A key whose lock is
// free only now was perhaps answered after the snapshot was taken: then its primary key refuses the
// second answer, and the batch, tried again, finds the first.
// The lateral look by each key cannot be planned as anything but a search of the index.
const readText = (books: boolean) => `
with answer as (
  select wanted.caller, wanted.key, encode(fingerprint, 'hex') as fingerprint, status,
    body::text as body, etag, token
  from unnest($1::text[], $2::text[]) as wanted(caller, key)
  cross join lateral (
    select * from ledger.idempotency i
    where i.caller = wanted.caller and i.key = wanted.key limit 1) as found
)${books ? lineText : ''}, account as (
  select * from ledger.accounts
  where id = any(${books ? accountsOfLinesToo : '$3::text[]'}) order by id for update
)${books ? holdText : ''}
select current_setting('synchronous_commit') as durable,
  array(select pg_try_advisory_xact_lock(number)
    from unnest($4::bigint[]) with ordinality as key(number, place) order by place) as held,
  (select json_agg(answer) from answer) as answers,
  (select json_agg(json_build_object('id', id, 'owner', owner, 'currency', currency,
      'exponent', exponent, 'type', type, 'status', status, 'frozen', frozen,
      'ledger_balance', ledger_balance::text, 'held', held::text,
      'overdraft_limit', overdraft_limit::text, 'metadata', metadata, 'version', version::text,
      'opened_at', opened_at, 'as_of', as_of)) from account) as accounts,
  ${books ? holdRows : 'null::json'} as holds, ${books ? lineRows : 'null::json'} as lines`

const lineText = `, line as (
  select * from ledger.entries
  where transaction_id = any($5::uuid[]) and account_version is not null
)`
const accountsOfLinesToo = 'array(select unnest($3::text[]) union all select account_id from line)'
// Who paid comes first: a reversal's answer names them by their parts, wherever the rows lie.
const lineRows = `(select json_agg(json_build_object('id', transaction_id, 'account_id', account_id,
      'currency', currency, 'amount', amount::text,
      'reversed_by', (select reversed_by from ledger.reversals r
        where r.transaction_id = line.transaction_id),
      'reverses', exists (select from ledger.reversals r
        where r.reversed_by = line.transaction_id)) order by line.amount) from line)`

// Holds are read after their accounts' locks were got (the count sees to it), and under locks of
// their own: a hold that ended while the account was waited for is read as it is then.
const holdText = `, hold as (
  select * from ledger.holds
  where id = any($6::uuid[]) and (select count(*) from account) >= 0 for update
)`
const holdRows = `(select json_agg(json_build_object('id', id, 'account_id', account_id,
      'amount', amount::text, 'status', status, 'expires_at', expires_at)) from hold)`

// Most batches name neither, and a statement that asks for them costs a tenth more.
const readPlain = { name: 'read-batch', text: readText(false) }
const readWithBooks = { name: 'read-batch-with-books', text: readText(true) }

/**
 * Begins the transaction, takes the keys' locks, and reads. Accounts are locked in one order for
 * everybody, before the first insert: version and position are then both drawn under the lock, which
 * is what makes position order version order. Read committed, so that a row that was waited for is
 * read as it is then, not as in the snapshot. Refuses a session that would answer before its commit
 * is on disk: polling could publish what a crash then takes back.
 */
export async function beginBatch(
  client: ClientBase,
  keys: readonly CommandKey[],
  named: NamedIds,
): Promise<BatchState> {
  const values = [
    keys.map((key) => key.caller),
    keys.map((key) => key.key),
    named.accounts,
    keys.map((key) => String(lockNumber(key))),
  ]
  const plain = named.holds.length === 0 && named.transactions.length === 0
  const statement = plain
    ? { ...readPlain, values }
    : { ...readWithBooks, values: [...values, named.transactions, named.holds] }
  const [, { rows }] = await Promise.all([
    client.query('begin isolation level read committed'),
    client.query<StateRow>(statement),
  ])
  const { durable, held, answers, accounts, holds, lines } = rows[0] as StateRow
  assert.equal(durable, 'on', 'sessions of the write side need synchronous_commit = on')
  return {
    held,
    answers: (answers ?? []).map(({ caller, key, fingerprint, ...answer }) => ({
      caller,
      key,
      fingerprint: Buffer.from(fingerprint, 'hex'),
      answer: { ...answer, replayed: true },
    })),
    accounts: new Map((accounts ?? []).map((row) => [row.id, accountOf(row)])),
    holds: new Map((holds ?? []).map((row) => [row.id, holdOf(row)])),
    transactions: transactionsOf(lines ?? []),
  }
}

function holdOf({ id, account_id, amount, status, expires_at }: HoldRow): Hold {
  const expiresAt = new Date(expires_at).toISOString()
  return { id, accountId: account_id, amount: BigInt(amount), status, expiresAt }
}

function transactionsOf(rows: readonly LineRow[]): Map<string, Transaction> {
  const lines = Map.groupBy(rows, (row) => row.id)
  return new Map(
    [...lines].map(([id, own]) => [
      id,
      {
        id,
        lines: own.map(({ account_id, currency, amount }) => ({
          accountId: account_id,
          currency,
          amount: BigInt(amount),
        })),
        reversedBy: own[0]?.reversed_by ?? null,
        reverses: own[0]?.reverses ?? false,
      },
    ]),
  )
}

function accountOf(row: AccountRow): Account {
  const { frozen, ledger_balance, overdraft_limit, opened_at, as_of, ...same } = row
  return {
    ...same,
    freeze: frozen,
    ledgerBalance: BigInt(ledger_balance),
    held: BigInt(row.held),
    overdraftLimit: BigInt(overdraft_limit),
    version: Number(row.version),
    openedAt: new Date(opened_at).toISOString(),
    asOf: new Date(as_of).toISOString(),
  }
}

// The queue's positions are drawn in the order of the select: by account, then version.
const writeText = (books: string) => `
with event as (
  select * from json_to_recordset($1) as e(
    id uuid, account_id text, version bigint, type text, payload json, traceparent text,
    correlationid text, causationid text, occurred_at timestamptz)
), queued as (
  insert into outbox.events (id, aggregatetype, aggregateid, aggregateversion, type, payload,
    source, specversion, traceparent, correlationid, causationid, occurred_at)
  select id, 'account', account_id, version, type, payload,
    'urn:sluice:command-api', '1.0', traceparent, correlationid, causationid, occurred_at
  from event order by account_id, version
  returning position, id
), recorded as (
  insert into ledger.account_events (account_id, version, id, type, payload, outbox_position,
    traceparent, correlationid, causationid, occurred_at)
  select account_id, version, id, type, payload, position,
    traceparent, correlationid, causationid, occurred_at
  from event join queued using (id)
), entry as (
  insert into ledger.entries (transaction_id, account_id, account_version, currency, amount,
    effective_at, recorded_at)
  select * from json_to_recordset($2) as e(
    transaction_id uuid, account_id text, account_version bigint, currency text, amount bigint,
    effective_at timestamptz, recorded_at timestamptz)
), account as (
  select * from json_to_recordset($3) as a(
    id text, owner text, currency text, exponent smallint, type text, status text, frozen text,
    ledger_balance bigint, held bigint, overdraft_limit bigint, metadata jsonb, version bigint,
    opened_at timestamptz, as_of timestamptz, from_version bigint)
), opened as (
  insert into ledger.accounts (id, owner, currency, exponent, type, status, frozen, ledger_balance,
    held, overdraft_limit, metadata, version, opened_at, as_of)
  select id, owner, currency, exponent, type, status, frozen, ledger_balance,
    held, overdraft_limit, metadata, version, opened_at, as_of
  from account where from_version = 0
  returning id
), changed as (
  update ledger.accounts a set owner = n.owner, status = n.status, frozen = n.frozen,
    ledger_balance = n.ledger_balance, held = n.held, overdraft_limit = n.overdraft_limit,
    metadata = n.metadata, version = n.version, as_of = n.as_of
  from account n where a.id = n.id and n.from_version > 0 and a.version = n.from_version
  returning a.id
), answered as (
  insert into ledger.idempotency (caller, key, fingerprint, status, body, etag, token, answered_at)
  select caller, key, decode(fingerprint, 'hex'), status, body, etag, token, answered_at
  from json_to_recordset($4) as k(caller text, key text, fingerprint text, status smallint,
    body json, etag text, token text, answered_at timestamptz)
)${books}
select case when written.accounts <> $5 then
  ('accounts written: ' || written.accounts || ' of ' || $5)::integer end
from (select (select count(*) from opened) + (select count(*) from changed) as accounts) as written`

const booksText = `, held as (
  insert into ledger.holds (id, account_id, amount, status, expires_at)
  select id, account_id, amount, status, expires_at
  from json_to_recordset($6) as h(id uuid, account_id text, amount bigint, status text,
    expires_at timestamptz)
  on conflict (id) do update set status = excluded.status
), reversed as (
  insert into ledger.reversals (transaction_id, reversed_by, reversed_at)
  select transaction_id, reversed_by, reversed_at
  from json_to_recordset($7) as r(transaction_id uuid, reversed_by uuid, reversed_at timestamptz)
)`

const writePlain = { name: 'write-batch', text: writeText('') }
const writeWithBooks = { name: 'write-batch-with-books', text: writeText(booksText) }

/**
 * Writes a batch in one statement and commits. Throws when an account was not at the version it was
 * read at: the statement then fails in the database (a text that is no integer), since the commit is
 * on its way behind it.
 */
export async function writeAndCommit(client: ClientBase, batch: BatchWrite): Promise<void> {
  const values = [
    JSON.stringify(batch.events.map(eventRow)),
    JSON.stringify(batch.events.flatMap(entryRows)),
    JSON.stringify(batch.accounts.map(accountRow)),
    `[${batch.answers.map(answerRow).join()}]`,
    batch.accounts.length,
  ]
  const reversals = reversalRows(batch.events)
  const plain = batch.holds.length === 0 && reversals.length === 0
  const books = [JSON.stringify(batch.holds.map(holdRow)), JSON.stringify(reversals)]
  const statement = plain
    ? { ...writePlain, values }
    : { ...writeWithBooks, values: [...values, ...books] }
  await Promise.all([client.query(statement), client.query('commit')])
}

function eventRow({ id, event, traceparent, correlationId, causationId }: RecordedEvent) {
  return {
    id,
    account_id: event.payload.accountId,
    version: event.payload.after.version,
    type: event.type,
    payload: event.payload,
    traceparent,
    correlationid: correlationId,
    causationid: causationId,
    occurred_at: event.at,
  }
}

function entryRows({ event }: RecordedEvent) {
  const lines = entriesOf(event)
  if (lines.length === 0 || !('transactionId' in event.payload)) return []
  const { transactionId, accountId, after } = event.payload
  return lines.map((line) => ({
    transaction_id: transactionId,
    account_id: line.accountId,
    account_version: line.accountId === accountId ? after.version : null,
    currency: line.currency,
    amount: String(line.amount),
    effective_at: line.effectiveAt,
    recorded_at: event.at,
  }))
}

function accountRow({ account, fromVersion }: BatchWrite['accounts'][number]) {
  return {
    id: account.id,
    owner: account.owner,
    currency: account.currency,
    exponent: account.exponent,
    type: account.type,
    status: account.status,
    frozen: account.freeze,
    ledger_balance: String(account.ledgerBalance),
    held: String(account.held),
    overdraft_limit: String(account.overdraftLimit),
    metadata: account.metadata,
    version: account.version,
    opened_at: account.openedAt,
    as_of: account.asOf,
    from_version: fromVersion,
  }
}

function holdRow({ id, accountId, amount, status, expiresAt }: Hold) {
  return {
    id,
    account_id: accountId,
    amount: String(amount),
    status,
    expires_at: expiresAt,
  }
}

/** One row for each reversal, whichever number of accounts it has an event on. */
function reversalRows(events: readonly RecordedEvent[]) {
  const rows = events.flatMap(({ event: { type, at, payload } }) =>
    type === 'TransactionReversed.v1'
      ? [
          {
            transaction_id: payload.reversedTransactionId,
            reversed_by: payload.transactionId,
            reversed_at: at,
          },
        ]
      : [],
  )
  return [...new Map(rows.map((row) => [row.transaction_id, row])).values()]
}

/** As JSON text; the body, which is such text itself, stands in it as it is. */
function answerRow({
  caller,
  key,
  fingerprint,
  answer,
  answeredAt,
}: BatchWrite['answers'][number]): string {
  const { status, body, etag, token } = answer
  const hex = fingerprint.toString('hex')
  const row = { caller, key, fingerprint: hex, status, etag, token, answered_at: answeredAt }
  return `${JSON.stringify(row).slice(0, -1)},"body":${body}}`
}
