import { randomUUID } from 'node:crypto'
import type { CommandKind, HistoryEntry, Outcome } from './history.ts'

/** A command as it is sent, and sent again, byte for byte. */
export type Command = Pick<HistoryEntry, 'key' | 'kind' | 'account' | 'to' | 'amount'> & {
  method: 'POST' | 'PUT' | 'PATCH'
  path: string
  body: string
}

/** Of a command on one account that needs no more than an amount. */
export type SimpleKind = Exclude<
  CommandKind,
  'transfer' | 'batch' | 'reverse' | 'capture' | 'release'
>

/** A hold that an answer told of. */
export type KnownHold = { id: string; account: string; amount: bigint }
/** A transaction that an answer told of: what it moved, and between whom. */
export type KnownMove = { transactionId: string; account: string; to?: string; amount: bigint }

const money = (amount: bigint) => ({ amount: String(amount), currency: 'EUR' })
/** Of the holds that nobody captures or releases in time: few seconds, so that the timer has work. */
const shortHoldSeconds = 2

export function newCommand(kind: SimpleKind, account: string, amount: bigint): Command {
  const opening = { id: account, owner: 'Drill', currency: 'EUR' }
  const shapes = {
    open: ['', amount > 0n ? { ...opening, openingDeposit: String(amount) } : opening],
    deposit: [`/${account}/deposits`, money(amount)],
    withdraw: [`/${account}/withdrawals`, money(amount)],
    // Of an odd amount short, so that it is known beforehand which the timer ends.
    hold: [
      `/${account}/holds`,
      { ...money(amount), ...(isShort(amount) ? { expiresInSeconds: shortHoldSeconds } : {}) },
    ],
    limit: [`/${account}/overdraft-limit`, { overdraftLimit: String(amount) }],
    details: [`/${account}`, { owner: `Drill ${amount}`, metadata: { said: String(amount) } }],
    freeze: [`/${account}/freeze`, { scope: 'debits', reason: 'drill' }],
    unfreeze: [`/${account}/unfreeze`, {}],
    close: [`/${account}/close`, {}],
    reopen: [`/${account}/reopen`, {}],
  } as const
  const [path, body] = shapes[kind]
  return sent({ kind, account, amount }, `/accounts${path}`, body)
}

/** A hold of an odd amount expires by itself. */
const isShort = (amount: bigint) => amount % 2n === 1n

export function newTransfer(from: string, to: string, amount: bigint): Command {
  const body = { from, to, ...money(amount) }
  return sent({ kind: 'transfer', account: from, to, amount }, '/transfers', body)
}

/** Withdrawn from one and deposited on the other, both or neither. */
export function newBatch(from: string, to: string, amount: bigint): Command {
  const key = randomUUID()
  const commands = [
    { key: `${key}-0`, command: 'Withdraw', accountId: from, ...money(amount) },
    { key: `${key}-1`, command: 'Deposit', accountId: to, ...money(amount) },
  ]
  const body = { atomic: true, commands }
  return sent({ kind: 'batch', account: from, to, amount }, '/batches', body, key)
}

export function newReversal({ transactionId, ...moved }: KnownMove): Command {
  return sent({ kind: 'reverse', ...moved }, `/transactions/${transactionId}/reversal`, {})
}

export function newCapture({ id, account }: KnownHold, amount: bigint): Command {
  const path = `/accounts/${account}/holds/${id}/capture`
  return sent({ kind: 'capture', account, amount }, path, { amount: String(amount) })
}

export function newRelease({ id, account, amount }: KnownHold): Command {
  return sent({ kind: 'release', account, amount }, `/accounts/${account}/holds/${id}/release`, {})
}

function sent(
  command: Pick<Command, 'kind' | 'account' | 'to' | 'amount'>,
  path: string,
  body: object,
  key: string = randomUUID(),
): Command {
  const methods: Partial<Record<CommandKind, Command['method']>> = {
    limit: 'PUT',
    details: 'PATCH',
  }
  const method = methods[command.kind] ?? 'POST'
  return { ...command, key, method, path, body: JSON.stringify(body) }
}

export type Answer = Pick<HistoryEntry, 'status' | 'version'> & {
  outcome: Outcome
  /** Of an accepted command. */
  said?: Said
}

type Resource = { id?: string; version?: number }
/** What an answer may tell, of whichever command. */
type Said = Resource & {
  transactionId?: string
  hold?: { id: string }
  account?: Resource
  from?: Resource
  to?: Resource
  items?: { body: { account?: Resource } }[]
}

const conditional: ReadonlySet<CommandKind> = new Set(['close', 'limit', 'details'])

/** Sends a command once. Never rejects: what went wrong is an unknown outcome. */
export async function send(commandUrl: string, command: Command, limitMs = 8_000): Promise<Answer> {
  const { kind, key, method, path, body, account } = command
  try {
    const response = await fetch(`${commandUrl}${path}`, {
      method,
      headers: {
        'Content-Type': 'application/json',
        'Idempotency-Key': key,
        'Correlation-Id': key,
        ...(conditional.has(kind) ? { 'If-Match': '*' } : {}),
      },
      body,
      signal: AbortSignal.timeout(limitMs),
    })
    const text = await response.text()
    const { status } = response
    const outcome = outcomeOf(status, text)
    if (outcome !== 'ok') return { outcome, status, version: null }
    const said = JSON.parse(text) as Said
    return {
      outcome,
      status,
      version: versionOf(account, response.headers.get('ETag'), said),
      said,
    }
  } catch {
    return { outcome: 'unknown', status: null, version: null }
  }
}

/** Of the account the command is about. What is about several accounts has no ETag. */
function versionOf(account: string, etag: string | null, said: Said): number | null {
  if (etag !== null) return Number(etag.replaceAll('"', ''))
  const items = said.items?.map(({ body }) => body.account) ?? []
  return [said.from, said.to, ...items].find((each) => each?.id === account)?.version ?? null
}

function outcomeOf(status: number, text: string): Outcome {
  if (status === 200 || status === 201) return 'ok'
  if (status >= 500 || status === 429 || status === 408) return 'unknown'
  return text.includes('"idempotency_in_progress"') ? 'unknown' : 'refused'
}
