import type { Problem } from 'service/problem'
import type { Account } from './account.ts'
import type { Books, Hold } from './books.ts'
import type { Command } from './commands.ts'
import { accountResource, holdResource } from './resource.ts'
import { encodeToken } from './token.ts'

/**
 * What a command's caller is told, kept under its idempotency key. `body` is JSON text, so that a
 * replay is the same to the byte.
 */
export type Answer = {
  status: number
  body: string
  etag: string | null
  token: string | null
  /** Seconds for Retry-After; never kept, because such an answer is never final. */
  retryAfterSeconds?: number
  replayed: boolean
}

/** `changes` is what the command's events changed; an ETag is that of one account alone. */
export function acceptedAnswer(command: Command, changes: Books): Answer {
  const accounts = [...changes.accounts.values()]
  const only = accounts.length === 1 ? accounts[0] : undefined
  return {
    status: statusOf(command),
    body: JSON.stringify(bodyOf(command, changes)),
    etag: only === undefined ? null : `"${only.version}"`,
    token: encodeToken(new Map(accounts.map((account) => [account.id, account.version]))),
    replayed: false,
  }
}

const created: ReadonlySet<Command['kind']> = new Set([
  'OpenAccount',
  'Deposit',
  'Withdraw',
  'ForceDebit',
  'Transfer',
  'PlaceHold',
  'CaptureHold',
  'ReverseTransaction',
])

const statusOf = ({ kind }: Command) => (created.has(kind) ? 201 : 200)

function bodyOf(command: Command, changes: Books): unknown {
  const { transactionId } = command
  switch (command.kind) {
    case 'Deposit':
    case 'Withdraw':
    case 'ForceDebit':
      return { transactionId, account: resourceOf(changes, command.accountId) }
    case 'Transfer': {
      const { transferId } = command
      const [from, to] = [command.from, command.to].map((id) => resourceOf(changes, id))
      return { transferId, transactionId, from, to }
    }
    case 'ReverseTransaction': {
      const { reversedTransactionId } = command
      return { transactionId, reversedTransactionId, ...reversedAccounts(changes) }
    }
    case 'CaptureHold':
      return { transactionId, ...holdAndAccount(changes, command) }
    case 'PlaceHold':
    case 'ReleaseHold':
    case 'ExpireHold':
      return holdAndAccount(changes, command)
    default:
      return resourceOf(changes, command.accountId)
  }
}

const resourceOf = (changes: Books, id: string) =>
  accountResource(changes.accounts.get(id) as Account)

function holdAndAccount(changes: Books, command: { accountId: string; holdId: string }) {
  const hold = changes.holds.get(command.holdId) as Hold
  return { hold: holdResource(hold), account: resourceOf(changes, command.accountId) }
}

/** As what was reversed looked: one account, or one that paid the other. Now the other pays. */
function reversedAccounts(changes: Books) {
  const [first, second] = [...changes.accounts.values()].map(accountResource)
  return second === undefined ? { account: first } : { from: second, to: first }
}

/** A refusal names the account's present version, where there is an account. */
export function refusedAnswer(refusal: Problem, account: Account | null, traceId: string): Answer {
  return {
    status: refusal.kind.status,
    body: JSON.stringify(refusal.body(traceId)),
    etag: account === null ? null : `"${account.version}"`,
    token: account === null ? null : encodeToken(new Map([[account.id, account.version]])),
    replayed: false,
  }
}
