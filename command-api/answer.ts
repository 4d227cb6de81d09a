import type { Problem } from 'service/problem'
import type { Account, AccountCommand } from './account.ts'
import { accountResource } from './resource.ts'
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

export function acceptedAnswer(command: AccountCommand, account: Account): Answer {
  const resource = accountResource(account)
  const moves = command.kind === 'Deposit' || command.kind === 'Withdraw'
  const body = moves ? { transactionId: command.transactionId, account: resource } : resource
  return {
    status: command.kind === 'CloseAccount' ? 200 : 201,
    body: JSON.stringify(body),
    etag: `"${account.version}"`,
    token: encodeToken(new Map([[account.id, account.version]])),
    replayed: false,
  }
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
