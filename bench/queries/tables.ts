// What the read tables hold, as a million accounts would have left them: each row a function of the
// account's number `n` and the line's `k` within it, so that a question can be put without looking
// first.

export const linesPerAccount = 5
/** Accounts, evenly spread, each of which has far more of everything than the others. */
export const busyEvery = 100_000
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

/** When an account was opened, and when its lines were recorded: a day apart, a busy one's an hour. */
function timeSql(number: string, line: string): string {
  const between = `case ${number} % ${busyEvery} when 0 then 3600 else 86400 end`
  return `timestamptz '2026-01-01 00:00Z' + ((${number}) % 8640000 + (${line}) * ${between}) * interval '1 s'`
}

const lastLine = `case n % ${busyEvery} when 0 then ${busyLines} else ${linesPerAccount} end`
/** What an account has after its k-th line; of a busy one always less than 1,000. */
const balanceSql = (k: string) =>
  `(case n % ${busyEvery} when 0 then ${k} % 1000 else n % 100000 * ${k} / ${linesPerAccount} end)::bigint`
/** The third of four lines took effect three days before it was recorded. */
const isShifted = 'k % 4 = 3'
const movedBy = (k: string) => `${balanceSql(k)} - ${balanceSql(`(${k} - 1)`)}`

export type Fill = { table: string; text: (accounts: number) => string }

export const accountsFill: Fill = {
  table: 'read.accounts',
  text: (accounts) => `insert into read.accounts
    select 'acc-' || n, ${ownerSql('n')}, ${pick(['EUR', 'USD', 'JPY'], 'n')}, 2, 'current',
      case n % 50 when 0 then 'closed' else 'open' end, null, ${balanceSql('k')}, 0,
      ${balanceSql('k')}, 0, '{}', k + 1, ${uuidSql('event', 'n')}, ${timeSql('n', '0')},
      ${timeSql('n', 'k')}
    from generate_series(0, ${accounts - 1}) n, lateral (select ${lastLine}) l(k)`,
}

/** The k-th line of each account. A busy one's third of four always brings 1. */
const linesSql = (accounts: number) => `
  select n, k, 'acc-' || n as account, ${movedBy('k')} as amount, ${isShifted} as is_shifted,
    ${timeSql('n', 'k')} as at,
    ${timeSql('n', 'k')} - case when ${isShifted} then interval '3 days' else interval '0' end
      as effective
  from generate_series(0, ${accounts - 1}) n, generate_series(1, ${lastLine}) k`

const statementFills: readonly Fill[] = [
  {
    table: 'read.statement_lines',
    text: (accounts) => `insert into read.statement_lines
      select account, at, k + 1, effective, case when amount < 0 then 'withdrawal' else 'deposit' end,
        amount, ${balanceSql('k')},
        case when n % ${busyEvery} = 0 then (k + 1) / 4
          when k >= 3 then ${movedBy('3')} else 0 end,
        ${uuidSql('line', `n || '-' || k`)}, null, null,
        ${pick(things, 'n + k')} || ' ' || (n * ${linesPerAccount} + k)
      from (${linesSql(accounts)}) l`,
  },
  {
    table: 'read.statement_shifts',
    text: (accounts) => `insert into read.statement_shifts
      select account, (effective at time zone 'UTC')::date, sum(amount)
      from (${linesSql(accounts)}) l where is_shifted group by 1, 2`,
  },
  {
    table: 'read.statements_heads',
    text: () => `insert into read.statements_heads
      select id, version, last_event_id, currency, exponent, ledger_balance, 0,
        to_char(as_of at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
      from read.accounts`,
  },
]

/** Which of the slots of a tally has an account counted. */
const slot = (id: string) => `1 + abs(hashtext(${id})) % 32`

const figureFills: readonly Fill[] = [
  {
    table: 'read.tiers_edges',
    text: () => `insert into read.tiers_edges
      select distinct currency, exponent, '{0,10000,50000}'::bigint[] from read.accounts`,
  },
  {
    table: 'read.tiers_heads',
    text: () => `insert into read.tiers_heads
      select id, version, last_event_id, currency, width_bucket(ledger_balance, edges), ledger_balance
      from read.accounts join read.tiers_edges using (currency)`,
  },
  {
    table: 'read.tiers_tallies',
    text: () => `insert into read.tiers_tallies
      select ${slot('account_id')}, currency, tier, count(*), sum(balance), sum(version), now()
      from read.tiers_heads group by 1, 2, 3`,
  },
  {
    table: 'read.totals_heads',
    text: () => `insert into read.totals_heads
      select id, version, last_event_id, currency, status, ledger_balance, held, available
      from read.accounts`,
  },
  {
    table: 'read.totals_tallies',
    text: () => `insert into read.totals_tallies
      select ${slot('id')}, currency, status, count(*), sum(ledger_balance), sum(held),
        sum(available), sum(version), max(as_of)
      from read.accounts group by 1, 2, 3`,
  },
  {
    table: 'read.dashboard_heads',
    text: () => `insert into read.dashboard_heads
      select id, version, last_event_id, '[]' from read.accounts`,
  },
  {
    table: 'read.dashboard_tallies',
    text: () => `insert into read.dashboard_tallies
      select slot, seconds, date_bin(seconds * interval '1 s', now(), '2026-01-01 00:00Z')
        - ago * seconds * interval '1 s', 7, 7, now()
      from generate_series(1, 32) slot, (values (1), (60)) s(seconds), generate_series(0, 60) ago
      union all select slot, 0, '1970-01-01 00:00Z', 0, 200, now() from generate_series(1, 32) slot`,
  },
]

const headsFills: readonly Fill[] = ['transfers', 'holds', 'search', 'risk', 'notifications'].map(
  (name) => ({
    table: `read.${name}_heads`,
    text: () => `insert into read.${name}_heads
      select id, version, last_event_id${{ holds: ', as_of', risk: `, '{}'` }[name] ?? ''}
      from read.accounts`,
  }),
)

const otherFills: readonly Fill[] = [
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
        generate_series(0, case n % ${busyEvery} when 0 then ${busyLines} else 1 end) k`,
  },
  {
    table: 'read.search_accounts',
    text: () => `insert into read.search_accounts
      select id, owner, setweight(to_tsvector('simple', owner), 'A'), 1, opened_at
      from read.accounts`,
  },
  {
    table: 'read.search_words',
    text: () => `insert into read.search_words
      select distinct word from read.accounts, unnest(string_to_array(owner, ' ')) word
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

const referencesFill: Fill = {
  table: 'read.search_references',
  text: (accounts) => `insert into read.search_references
    select 'acc-' || n, k + 1, ${uuidSql('line', `n || '-' || k`)}, reference,
      setweight(to_tsvector('simple', reference), 'C'), ${timeSql('n', 'k')}
    from generate_series(0, ${accounts - 1}) n, generate_series(1, ${linesPerAccount}) k,
      lateral (select ${pick(things, 'n + k')} || ' ' || (n * ${linesPerAccount} + k)) r(reference)`,
}

/** Made from read.accounts, each for itself but those of the figures, which go by their order. */
export const fillLanes: readonly (readonly Fill[])[] = [
  [...statementFills, ...figureFills],
  [referencesFill, ...otherFills, ...headsFills],
]
