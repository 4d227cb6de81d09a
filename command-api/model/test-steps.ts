import { randomInt } from 'node:crypto'
import fc from 'fast-check'
import type { Sent } from '../test-api.ts'
import type { Asked } from './test-bank.ts'

// Random steps, and the requests that they are. A step names accounts, holds and transactions by
// numbers: which they are is known only when its turn comes.

const givenSeed = process.env.MODEL_SEED
/** Of all random tests of this process; in each one's name. */
export const seed = givenSeed === undefined ? randomInt(1_000_000_000) : Number(givenSeed)

/** The name of the error by which a property fails; a control must fail by what it was meant to show. */
export async function failureOf<T>(
  property: fc.IAsyncProperty<T>,
  numRuns = 60,
): Promise<string | undefined> {
  const run = await fc.check(property, { seed, numRuns, endOnFailure: true })
  const error = run.errorInstance
  return error instanceof Error ? error.name : undefined
}

/** How often each kind comes, beside the others. */
export const kinds = {
  Deposit: 5,
  Withdraw: 5,
  Transfer: 6,
  PlaceHold: 5,
  CaptureHold: 4,
  ReleaseHold: 1,
  FreezeAccount: 1,
  UnfreezeAccount: 2,
  ChangeOverdraftLimit: 2,
  ReverseTransaction: 3,
  UpdateAccountDetails: 1,
  CloseAccount: 2,
  ReopenAccount: 2,
  OpenAccount: 1,
  ForceDebit: 1,
}

type Kind = keyof typeof kinds
type Weights = Partial<Record<Kind, number>>

const slots = 4
const most = 10n ** 18n - 1n

const anyAmount = fc.oneof(
  { weight: 30, arbitrary: fc.bigInt({ min: 1n, max: 60n }) },
  { weight: 1, arbitrary: fc.constant(most) },
)

const once = <T>(value: T, weight: number) => ({ weight, arbitrary: fc.constant(value) })

/** Everything that any kind of step could need. */
const stepFields = (weights: Weights) => ({
  kind: fc.oneof(...Object.entries(weights).map(([kind, weight]) => once(kind as Kind, weight))),
  account: fc.nat(slots - 1),
  other: fc.nat(slots - 1),
  /** Which of the holds or transactions known by then, the newest first. */
  ref: fc.oneof({ weight: 3, arbitrary: fc.nat(2) }, fc.nat(20)),
  amount: anyAmount,
  /** A capture of the whole, an opening without a deposit. */
  whole: fc.boolean(),
  currency: fc.oneof(once('EUR', 12), once('USD', 1)),
  scope: fc.constantFrom('all', 'debits', 'credits'),
  ifMatch: fc.oneof(once('none' as const, 8), once('right' as const, 2), once('stale' as const, 1)),
})

export const stepsOf = (weights: Weights) => fc.record(stepFields(weights))
export type Step = ReturnType<typeof stepsOf> extends fc.Arbitrary<infer T> ? T : never

/** What is known when a step's turn comes. */
export type Known = {
  accounts: readonly string[]
  /** The newest last. */
  holds: readonly { id: string; account: string }[]
  transactions: readonly string[]
  versionOf(account: string): number
}

const nobodys = '00000000-0000-4000-8000-000000000000'

export function askedBy(given: Step, known: Known): Asked {
  const { kind, amount, currency, scope } = given
  const [account = '', to = ''] = [given.account, given.other].map((n) => known.accounts[n])
  const on = { account, ifMatch: ifMatchOf(given, known, account) }
  switch (kind) {
    case 'OpenAccount':
      return {
        kind,
        currency,
        type: 'current',
        owner: `Ada ${given.ref}`,
        account,
        overdraftLimit: amount === most ? 0n : amount / 2n,
        openingDeposit: given.whole ? null : amount,
      }
    case 'Deposit':
    case 'Withdraw':
    case 'PlaceHold':
      return { kind, ...on, amount, currency }
    case 'ForceDebit':
      return { kind, ...on, amount: amount * 2n > most ? most : amount * 2n, currency }
    case 'Transfer':
      return {
        kind,
        from: account,
        to,
        amount,
        currency: given.whole ? undefined : currency,
      }
    case 'CaptureHold':
    case 'ReleaseHold': {
      const hold = known.holds.at(-1 - given.ref) ?? { id: nobodys, account: on.account }
      // Now and then on an account that it is not of.
      const holder = given.ifMatch === 'stale' ? on.account : hold.account
      const named = { account: holder, hold: hold.id }
      if (kind === 'ReleaseHold') return { kind, ...named }
      return { kind, ...named, amount: given.whole ? null : amount / 2n + 1n }
    }
    case 'ReverseTransaction':
      return { kind, transaction: known.transactions.at(-1 - given.ref) ?? nobodys }
    case 'FreezeAccount':
      return { kind, ...on, scope }
    case 'ChangeOverdraftLimit':
      return { kind, ...on, overdraftLimit: given.whole ? 0n : amount }
    case 'UpdateAccountDetails':
      return { kind, ...on, owner: `Bob ${given.ref}` }
    default:
      return { kind, ...on }
  }
}

function ifMatchOf({ ifMatch }: Step, known: Known, account: string): number | undefined {
  if (ifMatch === 'none') return undefined
  return known.versionOf(account) - (ifMatch === 'stale' ? 1 : 0)
}

const routes: Record<Asked['kind'], [method: string, path: string]> = {
  OpenAccount: ['POST', '/accounts'],
  Deposit: ['POST', '/accounts/:account/deposits'],
  Withdraw: ['POST', '/accounts/:account/withdrawals'],
  Transfer: ['POST', '/transfers'],
  PlaceHold: ['POST', '/accounts/:account/holds'],
  CaptureHold: ['POST', '/accounts/:account/holds/:hold/capture'],
  ReleaseHold: ['POST', '/accounts/:account/holds/:hold/release'],
  ExpireHold: ['POST', '/nobody'],
  FreezeAccount: ['POST', '/accounts/:account/freeze'],
  UnfreezeAccount: ['POST', '/accounts/:account/unfreeze'],
  ChangeOverdraftLimit: ['PUT', '/accounts/:account/overdraft-limit'],
  ReverseTransaction: ['POST', '/transactions/:transaction/reversal'],
  UpdateAccountDetails: ['PATCH', '/accounts/:account'],
  CloseAccount: ['POST', '/accounts/:account/close'],
  ReopenAccount: ['POST', '/accounts/:account/reopen'],
  ForceDebit: ['POST', '/accounts/:account/force-debits'],
}

export const holdSeconds = 60

/** The body of a request, which says what its path does not. */
export function bodyOf(asked: Asked): Record<string, unknown> {
  const { kind, ...fields } = asked
  const {
    account,
    ifMatch: _,
    hold: _hold,
    transaction: _transaction,
    ...said
  } = fields as Record<string, unknown>
  const shared = Object.fromEntries(
    Object.entries(said)
      .filter(([, value]) => value !== null && value !== undefined)
      .map(([name, value]) => [name, typeof value === 'bigint' ? String(value) : value]),
  )
  if (kind === 'OpenAccount') return { id: account, ...shared }
  if (kind === 'PlaceHold') return { ...shared, expiresInSeconds: holdSeconds }
  if (kind === 'FreezeAccount' || kind === 'ForceDebit') return { ...shared, reason: 'a reason' }
  return shared
}

/** A step as a request over REST, under a key. */
export function requestOf(asked: Asked, key: string | null): { path: string; sent: Sent } {
  const [method, pattern] = routes[asked.kind]
  const fields = asked as unknown as Record<string, string>
  const path = pattern.replaceAll(/:(\w+)/g, (_, name: string) => fields[name] as string)
  const version = 'ifMatch' in asked ? asked.ifMatch : undefined
  const mustSay = ['ChangeOverdraftLimit', 'UpdateAccountDetails', 'CloseAccount']
  const any = mustSay.includes(asked.kind) ? '*' : null
  const isOperators = ['ForceDebit', 'FreezeAccount', 'UnfreezeAccount'].includes(asked.kind)
  const headers = {
    'idempotency-key': key,
    'if-match': version === undefined ? any : `"${version}"`,
    authorization: `Bearer the-${isOperators ? 'operator' : 'key'}`,
  }
  return { path, sent: { method, headers, body: bodyOf(asked) } }
}
