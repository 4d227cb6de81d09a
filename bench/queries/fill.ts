import type pg from 'pg'
import type { Progress } from '../progress.ts'
import { connect } from '../servers.ts'

// The read tables as a million accounts would have left them, made by SQL. What is made is a function
// of the account's number, so that a question can be put without looking first.

export const linesPerAccount = 5
/** Accounts, evenly spread, each of which has far more of everything than the others. */
const busyLines = 20_000

const firstNames = ['ada', 'ben', 'cleo', 'dora', 'emil', 'fred', 'gina', 'hugo', 'ida', 'jon']
const syllables = ['ba', 'den', 'fi', 'gor', 'ha', 'ker', 'lo', 'mun', 'ni', 'pel']
const things = ['rent', 'salary', 'groceries', 'insurance', 'invoice', 'order', 'refund', 'gift']

const array = (words: readonly string[]) =>
  `(array[${words.map((word) => `'${word}'`).join(', ')}])`
const pick = (words: readonly string[], number: string) =>
  `${array(words)}[1 + (${number})::bigint % ${words.length}]`

/** One of 10 first names, and one of 100,000 last names: five syllables. */
const ownerSql = (number: string) => {
  const last = [1, 10, 100, 1_000, 10_000].map((unit) => pick(syllables, `${number} / ${unit}`))
  return `${pick(firstNames, `${number} / 7`)} || ' ' || ${last.join(' || ')}`
}

/** The same names, as words of a question. */
export function lastName(number: number): string {
  const units = [1, 10, 100, 1_000, 10_000]
  return units.map((unit) => syllables[Math.floor(number / unit) % 10]).join('')
}

export const firstName = (number: number) => firstNames[Math.floor(number / 7) % 10]!

/** The reference of an account's first line. */
export const firstReference = (number: number) =>
  `${things[(number + 1) % things.length]} ${number * linesPerAccount + 1}`

export const accountId = (number: number) => `acc-${number}`
/** Of version 4 and the usual variant, as far as anybody can see. */
const uuidSql = (kind: string, number: string) =>
  `overlay(overlay(md5('${kind}' || ${number}) placing '4' from 13) placing '8' from 17)::uuid`

/** Where a table's rows come from, `n` being the account's number and `k` the line's within it. */
const fills: readonly { table: string; text: (accounts: number) => string }[] = [
  {
    table: 'read.accounts',
    text: (accounts) => `insert into read.accounts
      select 'acc-' || n, ${ownerSql('n')}, ${pick(['EUR', 'USD', 'JPY'], 'n')}, 2, 'current',
        case n % 50 when 0 then 'closed' else 'open' end, null, n % 100000, 0, n % 100000, 0, '{}',
        ${linesPerAccount + 1}, ${uuidSql('event', 'n')}, ${timeSql('n', '0')},
        ${timeSql('n', String(linesPerAccount))}
      from generate_series(0, ${accounts - 1}) n`,
  },
  ...['transfers', 'holds', 'search', 'risk'].map((name) => ({
    table: `read.${name}_heads`,
    text: (accounts: number) => `insert into read.${name}_heads
      select id, version, last_event_id${{ holds: ', as_of', risk: `, '{}'` }[name] ?? ''}
      from read.accounts limit ${accounts}`,
  })),
  {
    table: 'read.transfer_halves',
    text: (accounts) => `insert into read.transfer_halves
      select ${uuidSql('transfer', 'n')}, side, 'acc-' || (n + moved) % ${accounts},
        'acc-' || (n + 1 - moved) % ${accounts}, ${uuidSql('transaction', 'n')}, 100, 'EUR', 'rent',
        ${timeSql('n', '1')}, 2, ${timeSql('n', '1')}, null, null
      from generate_series(0, ${accounts - 1}) n, (values ('from', 0), ('to', 1)) half(side, moved)`,
  },
  {
    table: 'read.holds',
    text: (
      accounts,
    ) => `insert into read.holds (id, account_id, amount, currency, reference, status,
        expires_at, placed_version, placed_at)
      select gen_random_uuid(), 'acc-' || n, 100, 'EUR', 'hotel',
        case k % 3 when 0 then 'active' else 'released' end, now(), k + 2, ${timeSql('n', 'k')}
      from generate_series(0, ${accounts - 1}) n,
        generate_series(0, case n % 100000 when 0 then ${busyLines} else 1 end) k`,
  },
  {
    table: 'read.search_accounts',
    text: (accounts) => `insert into read.search_accounts
      select id, owner, setweight(to_tsvector('simple', owner), 'A'), 1, opened_at
      from read.accounts limit ${accounts}`,
  },
  {
    table: 'read.search_references',
    text: (accounts) => `insert into read.search_references
      select 'acc-' || n, k + 1, ${uuidSql('line', `n || '-' || k`)}, reference,
        setweight(to_tsvector('simple', reference), 'C'), ${timeSql('n', 'k')}
      from generate_series(0, ${accounts - 1}) n, generate_series(1, ${linesPerAccount}) k,
        lateral (select ${pick(things, 'n + k')} || ' ' || (n * ${linesPerAccount} + k)) r(reference)`,
  },
  {
    table: 'read.search_words',
    text: () => `insert into read.search_words
      select distinct word from read.search_accounts, unnest(tsvector_to_array(document)) word
      union select unnest(${array(things)}) on conflict do nothing`,
  },
  {
    table: 'read.risk_flags',
    text: (accounts) => `insert into read.risk_flags
      select 'acc-' || n % (${accounts} / 5), k + n, ${pick(['velocity', 'outlier', 'emptied'], 'n')},
        ${timeSql('n', 'k')}, 'as it was found', '[]'
      from generate_series(0, ${accounts} / 5 - 1) n, generate_series(1, 2) k`,
  },
]

function timeSql(number: string, line: string): string {
  return `timestamptz '2026-01-01 00:00Z' + ((${number}) % 8640000 + (${line}) * 86400) * interval '1 s'`
}

export async function fillReadTables(
  url: string,
  accounts: number,
  progress: Progress,
): Promise<void> {
  await using client = await connect(url)
  await client.query(`set synchronous_commit = off; set maintenance_work_mem = '512MB'`)
  for (const { table, text } of fills) {
    progress.step(`filling ${table}`)
    await withoutIndexes(client, table, () => client.query(text(accounts)))
  }
  progress.step('vacuum and analyze')
  await client.query('vacuum analyze')
}

/** Indexes that are made of a full table take a tenth of the time, and are the same. */
async function withoutIndexes(
  client: pg.Client,
  table: string,
  fill: () => Promise<unknown>,
): Promise<void> {
  const { rows } = await client.query<{ name: string; definition: string }>(
    `select indexrelid::regclass::text as name, pg_get_indexdef(indexrelid) as definition
      from pg_index where indrelid = $1::regclass and not indisunique`,
    [table],
  )
  for (const { name } of rows) await client.query(`drop index ${name}`)
  await fill()
  for (const { definition } of rows) await client.query(definition)
}
