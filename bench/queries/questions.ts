import { createHash } from 'node:crypto'
import { accountId, firstName, firstReference, lastName } from './fill.ts'

/** A kind of question: the path of the n-th one, and in how many milliseconds 99 of 100 are answered. */
export type Question = {
  name: string
  targetMs: number
  path: (n: number) => string
  /** False: it may be answered with an empty list. */
  finds?: boolean
}

/** Spread over all accounts, the same in every run. */
const spread = (accounts: number) => (n: number) => (n * 7_919 + 12_345) % accounts

export function questions(accounts: number): Question[] {
  const number = spread(accounts)
  const account = (n: number) => accountId(number(n))
  const list = (name: string, path: Question['path'], finds = true): Question => ({
    name,
    targetMs: 50,
    path,
    finds,
  })
  return [
    list('one account', (n) => `/accounts/${account(n)}`),
    list('accounts', () => '/accounts?limit=100'),
    list('accounts of an owner', (n) => `/accounts?owner=${owner(number(n))}`),
    list('open accounts in a currency', () => '/accounts?status=open&currency=JPY'),
    list(
      'accounts in a narrow range of balances',
      () => '/accounts?minBalance=99990&maxBalance=99995',
    ),
    list('accounts opened within an hour', () => {
      return '/accounts?openedFrom=2026-01-02T01:00:00Z&openedTo=2026-01-02T02:00:00Z'
    }),
    list('holds of an account', (n) => `/accounts/${account(n)}/holds`),
    list('active holds of a busy one', (n) => `/accounts/${busy(n, accounts)}/holds?status=active`),
    list('a transfer', (n) => `/transfers/${transferId(number(n))}`),
    list('risk flags', () => '/risk/flags'),
    list('risk flags of a kind', () => '/risk/flags?kind=outlier&limit=100'),
    list(
      'risk flags of an account',
      (n) => `/risk/flags?account=${accountId(number(n) % (accounts / 5))}`,
    ),
    ...searches(number),
  ]
}

function searches(number: (n: number) => number): Question[] {
  const search = (name: string, q: (n: number) => string): Question => ({
    name: `search: ${name}`,
    targetMs: 500,
    path: (n) => `/search?q=${encodeURIComponent(q(n))}`,
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
const busy = (n: number, accounts: number) => accountId((n * 100_000) % accounts)

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
