import { hash, randomUUID } from 'node:crypto'
import { httpProblem } from 'service/problem'
import { parsePart, type ApiRequest } from 'service/route'
import { z } from 'zod'
import type { AccountCommand } from './account.ts'
import type { CommandRequest } from './batch.ts'
import { amount, amountOrZero, currencyCode } from './money.ts'
import { problem } from './problems.ts'

// From an HTTP request to a command. Objects are strict: nobody sets a balance by naming it.

const printable = (longest: number) =>
  z
    .string()
    .min(1)
    .max(longest)
    .regex(/^[^\p{Cc}\p{Cs}]*$/u, 'must not hold control characters')

const accountId = z
  .string()
  .regex(/^[A-Za-z0-9_-]{1,64}$/, 'must be 1 to 64 letters, digits, underscores, dashes')
  .refine((id) => !id.startsWith('sluice-'), 'must not begin with sluice-')

const accountPath = z.strictObject({ id: accountId })

const openAccountBody = z.strictObject({
  id: accountId.optional(),
  owner: printable(200),
  currency: currencyCode,
  type: z.enum(['current', 'savings']).default('current'),
  overdraftLimit: amountOrZero.default('0'),
  openingDeposit: amount.optional(),
})

/** Years that every store and client on the way can write, in UTC. */
const years = { first: 1900, last: 9998 }
const yearsMessage = `must be within the years ${years.first} to ${years.last}, in UTC`

function isWithinYears(moment: string): boolean {
  const year = new Date(moment).getUTCFullYear()
  return year >= years.first && year <= years.last
}

const movementBody = z.strictObject({
  amount,
  currency: currencyCode,
  reference: printable(200).optional(),
  effectiveAt: z.iso.datetime({ offset: true }).refine(isWithinYears, yearsMessage).optional(),
})

const closeBody = z.strictObject({}).optional()
const noQuery = z.strictObject({})

/** Functions of a command's birth, given so that tests decide them. */
export type Birth = { now: () => Date; newId: () => string }

/** The clock and ids of a running process. */
export const birth: Birth = { now: () => new Date(), newId: randomUUID }

export function openAccount(request: ApiRequest, { now, newId }: Birth): CommandRequest {
  const body = parsePart(openAccountBody, request.body)
  return commandRequest(request, body, newId, {
    kind: 'OpenAccount',
    accountId: body.id ?? newId(),
    transactionId: newId(),
    at: now().toISOString(),
    owner: body.owner,
    currency: body.currency,
    type: body.type,
    overdraftLimit: BigInt(body.overdraftLimit),
    openingDeposit: body.openingDeposit === undefined ? null : BigInt(body.openingDeposit),
  })
}

export function moveFunds(kind: 'Deposit' | 'Withdraw') {
  return (request: ApiRequest, { now, newId }: Birth): CommandRequest => {
    const { id } = parsePart(accountPath, request.params, 'path')
    const body = parsePart(movementBody, request.body)
    const at = now().toISOString()
    const effectiveAt =
      body.effectiveAt === undefined ? at : new Date(body.effectiveAt).toISOString()
    return commandRequest(request, body, newId, {
      kind,
      accountId: id,
      transactionId: newId(),
      at,
      amount: BigInt(body.amount),
      currency: body.currency,
      reference: body.reference ?? null,
      effectiveAt,
    })
  }
}

export function closeAccount(request: ApiRequest, { now, newId }: Birth): CommandRequest {
  const { id } = parsePart(accountPath, request.params, 'path')
  const body = parsePart(closeBody, request.body)
  if (request.header('If-Match') === undefined) {
    throw problem('precondition_required', { detail: 'send If-Match with the ETag last seen' })
  }
  const at = now().toISOString()
  const command = { kind: 'CloseAccount', accountId: id, transactionId: newId(), at } as const
  return commandRequest(request, body ?? {}, newId, command)
}

/** `body` is as parsed, its fields in the schema's order: two spellings of one request are one. */
function commandRequest(
  request: ApiRequest,
  body: unknown,
  newId: () => string,
  command: AccountCommand,
): CommandRequest {
  parsePart(noQuery, request.query, 'query')
  return {
    caller: request.caller.name,
    key: idempotencyKey(request),
    fingerprint: hash(
      'sha256',
      `${request.method}\n${request.path}\n${JSON.stringify(body)}`,
      'buffer',
    ),
    commandId: newId(),
    command,
    ifMatch: ifMatch(request, command),
    trace: request.trace,
  }
}

function idempotencyKey(request: ApiRequest): string {
  const key = request.header('Idempotency-Key')
  if (key === undefined) throw problem('idempotency_key_missing')
  if (/^[\x21-\x7e]{1,255}$/.test(key)) return key
  throw httpProblem('invalid_header', {
    errors: [{ pointer: 'Idempotency-Key', message: 'must be 1 to 255 visible ASCII characters' }],
  })
}

/**
 * The versions that If-Match wants, any of them; undefined where it wants none in particular. Weak
 * tags and tags of another kind match no version.
 */
function ifMatch(request: ApiRequest, command: AccountCommand): ReadonlySet<string> | undefined {
  const header = request.header('If-Match')?.trim()
  if (header === undefined || header === '*' || command.kind === 'OpenAccount') return undefined
  const tag = String.raw`(?:W/)?"[\x21\x23-\x7e]*"`
  if (new RegExp(`^${tag}(?:\\s*,\\s*${tag})*$`).test(header)) {
    return new Set(header.split(',').map((each) => each.trim()))
  }
  throw httpProblem('invalid_header', {
    errors: [{ pointer: 'If-Match', message: 'must be ETags of this account, such as "3"' }],
  })
}
