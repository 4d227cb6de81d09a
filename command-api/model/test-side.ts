import { hash, randomUUID } from 'node:crypto'
import { testDatabases } from 'local-stack/test-databases'
import { openPool } from 'migrations/database'
import { Client } from 'pg'
import { openLog } from 'service/log'
import type { Answer } from '../answer.ts'
import type { CommandRequest, Unit } from '../batch.ts'
import { commandForms } from '../commands.ts'
import { Executor } from '../executor.ts'
import { fingerprintOf } from '../requests.ts'
import { writeSessionSettings } from '../write-database.ts'
import type { Asked } from './test-bank.ts'
import { bodyOf } from './test-steps.ts'

// The executor on a database of its own, to be held against another one that does the same otherwise.

export type Outcome = readonly Answer[] | 'fault'
export type Side = Awaited<ReturnType<typeof openSide>>

export async function openSide() {
  const cleanup = new AsyncDisposableStack()
  const databases = cleanup.use(await testDatabases())
  const pool = cleanup.use(
    openPool({
      url: databases.write('sluice_command'),
      applicationName: 'side',
      maxConnections: 2,
      settings: writeSessionSettings,
      pipeline: true,
      onError: () => {},
    }),
  )
  const admin = new Client({ connectionString: databases.write() })
  await admin.connect()
  cleanup.defer(() => admin.end())
  const log = openLog('test', 'fatal')
  // One lane: whatever is submitted together is one batch.
  const executor = new Executor({ pool, log, newId: randomUUID, lanes: 1, patienceMs: 20_000 })
  const submit = (unit: Unit): Promise<Outcome> =>
    executor.submitTogether(unit).catch(() => 'fault' as const)
  return { admin, submit, [Symbol.asyncDispose]: () => cleanup.disposeAsync() }
}

export async function oneByOne({ submit }: Pick<Side, 'submit'>, units: readonly Unit[]) {
  const outcomes: Outcome[] = []
  for (const unit of units) outcomes.push(await submit(unit))
  return outcomes
}

export const inOneBatch = ({ submit }: Pick<Side, 'submit'>, units: readonly Unit[]) =>
  Promise.all(units.map(submit))

const forms = commandForms({ forceDebitLimit: 100n })

export type Birth = { key: string; n: number; fingerprint?: string }

/** The request of a command, the same on every side: its ids and its moment come from a number. */
export function commandOf(asked: Asked, { key, n, fingerprint = '' }: Birth): CommandRequest {
  const form = forms.find(({ name }) => name === asked.kind)
  if (form === undefined) throw new Error(`no form of ${asked.kind}`)
  let ids = 0
  const newId = () => idOf(`${key} ${n} ${(ids += 1)}`)
  const named: Record<string, unknown> = { ...asked }
  const params = Object.fromEntries(
    Object.keys(form.params.shape).map((name) => [name, named[name.replace(/Id$/, '')]]),
  )
  const now = () => new Date(Date.parse('2026-01-02T03:04:05.678Z') + n * 2_000)
  const { command } = form.read({ params, body: bodyOf(asked) }, { now, newId })
  const wanted = 'ifMatch' in asked ? asked.ifMatch : undefined
  return {
    caller: 'tester',
    key,
    fingerprint: fingerprintOf(`${key} ${fingerprint}`),
    commandId: newId(),
    command,
    ifMatch: wanted === undefined ? undefined : new Set([`"${wanted}"`]),
    trace: {
      traceparent: `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`,
      traceId: 'a',
      correlationId: 'c',
    },
    dryRun: false,
  }
}

const idOf = (text: string) =>
  hash('sha256', text).replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12}).*$/, '$1-$2-4$3-8$4-$5')

// Which row of the queue an event is, and its own id, may differ; nothing else may.
const tables = {
  'ledger.accounts': ['id', ''],
  'ledger.account_events': ['account_id', " - 'id' - 'outbox_position'"],
  'ledger.holds': ['account_id', ''],
  'ledger.idempotency': ['key', ''],
  'outbox.events': ['aggregateid', " - 'id' - 'position'"],
}

/** Every row that is of accounts and keys that begin alike, as text, in an order of its own. */
export async function rowsOf({ admin }: Side, prefix: string): Promise<string[]> {
  const selects = Object.entries(tables).map(
    ([table, [name, without]]) =>
      `select '${table} ' || (to_jsonb(t)${without})::text as row from ${table} t
       where ${name} like $1`,
  )
  const ofTransactions = `select transaction_id from ledger.entries where account_id like $1`
  for (const table of ['ledger.entries', 'ledger.reversals']) {
    selects.push(`select '${table} ' || to_jsonb(t)::text from ${table} t
      where transaction_id in (${ofTransactions})`)
  }
  const text = `${selects.join(' union all ')} order by 1`
  const { rows } = await admin.query<{ row: string }>(text, [`${prefix}%`])
  return rows.map(({ row }) => row)
}

/** In how many transactions answers were kept under keys that begin alike. */
export async function transactionsOf({ admin }: Side, prefix: string): Promise<number> {
  const { rows } = await admin.query<{ count: number }>(
    'select count(distinct xmin::text)::int from ledger.idempotency where key like $1',
    [`${prefix}%`],
  )
  return rows[0]?.count ?? 0
}
