import { createHash } from 'node:crypto'
import { accountId, busyEvery, firstName, firstReference, lastName } from './tables.ts'

/** A kind of question: the path of the n-th one, and in how many milliseconds 99 of 100 are answered. */
export type Question = {
  name: string
  targetMs: number
  path: (n: number) => string
  /** What an answer has that found something. */
  shows: string
  /** Where it is JSON that is asked for, nothing is said. */
  accept?: 'text/csv'
  /** Each page after the one before it, as far as there are any; one of them has to show it. */
  pages?: true
}

/** Spread over all accounts, the same in every run. */
const spread = (accounts: number) => (n: number) => (n * 7_919 + 12_345) % accounts

export function questions(accounts: number): Question[] {
  const number = spread(accounts)
  return [
    ...lists(number),
    ...rangeLists(),
    ...statements(number, accounts),
    ...figures(),
    ...others(number, accounts),
    ...searches(number),
  ]
}

type Options = Partial<Pick<Question, 'shows' | 'accept' | 'pages'>>

const list = (name: string, path: Question['path'] | string, options: Options = {}): Question => ({
  name,
  targetMs: 50,
  path: typeof path === 'string' ? () => path : path,
  shows: '"items":[{',
  ...options,
})

function lists(number: (n: number) => number): Question[] {
  const pages = { pages: true } as const
  return [
    list('one account', (n) => `/accounts/${accountId(number(n))}`, { shows: '"version":' }),
    list('accounts, 100 a page', '/accounts?limit=100', pages),
    list('accounts of an owner', (n) => `/accounts?owner=${owner(number(n))}`),
    list(
      'open accounts of an owner',
      (n) => `/accounts?status=open&owner=${owner(open(number(n)))}`,
    ),
    list('closed accounts', '/accounts?status=closed', pages),
    list('accounts in a currency', '/accounts?currency=USD', pages),
    list('closed accounts in a currency', '/accounts?status=closed&currency=JPY', pages),
    list('accounts in a tier', '/accounts?tier=EUR:10000..50000', pages),
    list('closed accounts in a tier', '/accounts?tier=EUR:10000..50000&status=closed', pages),
  ]
}

function rangeLists(): Question[] {
  const pages = { pages: true } as const
  const between = (from: string, to: string) =>
    `openedFrom=2026-01-${from}Z&openedTo=2026-01-${to}Z`
  return [
    // No index goes by balance: most of these pages are empty, and have a next one.
    list('a narrow range of balances', '/accounts?minBalance=99900&maxBalance=99999', pages),
    list(
      'the same in a currency',
      () => {
        return '/accounts?minBalance=99900&maxBalance=99999&currency=JPY'
      },
      pages,
    ),
    list('half of all balances', '/accounts?minBalance=50000&limit=100', pages),
    list('the same, closed, in a currency', (n) => {
      return `/accounts?minBalance=${50_000 + (n % 100)}&status=closed&currency=EUR`
    }),
    list('opened within an hour', `/accounts?${between('01T01:00:00', '01T02:00:00')}`),
    list('opened within a day', `/accounts?${between('01T00:00:00', '02T00:00:00')}`, pages),
    list('the same, closed, by balance', () => {
      return `/accounts?${between('01T00:00:00', '02T00:00:00')}&status=closed&minBalance=40000`
    }),
    // Each keeps a tenth and more, and together they keep nothing: there is no item to find.
    list(
      'ranges that exclude each other',
      `/accounts?${between('01T00:00:00', '01T12:00:00')}&minBalance=60000`,
      { shows: '"items":[]', pages: true },
    ),
  ]
}

function statements(number: (n: number) => number, accounts: number): Question[] {
  const of = (name: string, query: string) => (n: number) =>
    `/accounts/${accountId(number(n))}/${name}${query}`
  const ofBusy = (name: string, query: string) => (n: number) =>
    `/accounts/${busy(n, accounts)}/${name}${query}`
  const lines = { shows: '"lines":[{' }
  const found = { shows: '"balance":"' }
  const month = '?from=2026-06-01T00:00:00Z&to=2026-07-01T00:00:00Z'
  return [
    list('transactions of an account', of('transactions', '')),
    list('of a busy one, page by page', ofBusy('transactions', '?limit=100'), { pages: true }),
    list('a statement', of('statement', ''), lines),
    list('by effective time', of('statement', '?clock=effective'), lines),
    list('as CSV', of('statement', ''), { accept: 'text/csv', shows: '\ndeposit,' }),
    list('a busy one, a month', ofBusy('statement', month), lines),
    list('by effective time, a month', ofBusy('statement', `${month}&clock=effective`), lines),
    list('as CSV, 500 lines', ofBusy('statement', ''), { accept: 'text/csv', shows: '\ndeposit,' }),
    list('page by page', ofBusy('statement', '?clock=effective'), { ...lines, pages: true }),
    ...['recorded', 'effective'].flatMap((clock) => {
      const at = (n: number) => new Date(Date.UTC(2026, 0, 3) + n * 60_000).toISOString()
      const asked = (n: number) => `?clock=${clock}&at=${at(n)}`
      return [
        list(`a balance then, ${clock}`, (n) => of('balance', asked(n))(n), found),
        list(`of a busy one, ${clock}`, (n) => ofBusy('balance', asked(n * 100))(n), found),
      ]
    }),
  ]
}

function figures(): Question[] {
  return [
    list('tiers', '/tiers', { shows: '"count":' }),
    list('totals', '/totals', { shows: '"count":' }),
    list('the dashboard', '/dashboard', { shows: '"tiers":[{' }),
  ]
}

function others(number: (n: number) => number, accounts: number): Question[] {
  const flagged = (n: number) => accountId(number(n) % (accounts / 5))
  return [
    list('holds of an account', (n) => `/accounts/${accountId(number(n))}/holds`),
    list('active holds of a busy one', (n) => `/accounts/${busy(n, accounts)}/holds?status=active`),
    list('a transfer', (n) => `/transfers/${transferId(number(n))}`, { shows: '"complete"' }),
    list('risk flags', '/risk/flags', { pages: true }),
    list('risk flags of a kind', '/risk/flags?kind=outlier&limit=100', { pages: true }),
    list('risk flags of an account', (n) => `/risk/flags?account=${flagged(n)}`),
  ]
}

function searches(number: (n: number) => number): Question[] {
  const search = (name: string, q: (n: number) => string): Question => ({
    ...list(`search: ${name}`, (n) => `/search?q=${encodeURIComponent(q(n))}`),
    targetMs: 500,
  })
  return [
    search('a last name', (n) => lastName(number(n))),
    search('a name that 100,000 have', (n) => ['ada', 'ben', 'ida', 'jon'][n % 4]!),
    search('both names', (n) => `${firstName(number(n))} ${lastName(number(n))}`),
    search('a misspelt last name', (n) => misspelt(lastName(number(n)), n)),
    search('a misspelt full name', (n) => {
      return `${firstName(number(n))} ${misspelt(lastName(number(n)), n)}`
    }),
    search('a word of 625,000 references', (n) => ['rent', 'salary', 'invoice'][n % 3]!),
    search('a misspelt one', (n) => ['slaary', 'grocerys', 'insurence'][n % 3]!),
    search('a word and a number', (n) => firstReference(number(n))),
  ]
}

const owner = (number: number) => encodeURIComponent(`${firstName(number)} ${lastName(number)}`)
/** The next one that is open. */
const open = (number: number) => (number % 50 === 0 ? number + 1 : number)
const busy = (n: number, accounts: number) => accountId((n * busyEvery) % accounts)

/** Two letters swapped, one left out, or one changed. */
function misspelt(word: string, n: number): string {
  const at = 1 + (n % (word.length - 2))
  const [before, letter, next, rest] = [
    word.slice(0, at),
    word[at]!,
    word[at + 1]!,
    word.slice(at + 2),
  ]
  return [
    `${before}${next}${letter}${rest}`,
    `${before}${next}${rest}`,
    `${before}x${next}${rest}`,
  ][n % 3]!
}

function transferId(number: number): string {
  const digest = createHash('md5').update(`transfer${number}`).digest('hex')
  return digest.replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12})$/, '$1-$2-4$3-8$4-$5')
}
