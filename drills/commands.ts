import { randomUUID } from 'node:crypto'
import type { CommandKind, HistoryEntry, Outcome } from './history.ts'

/** A command as it is sent, and sent again, byte for byte. */
export type Command = {
  kind: CommandKind
  account: string
  /** Of a transfer: where the money goes. */
  to?: string
  amount: bigint
  key: string
  path: string
  body: string
}

export function newCommand(
  kind: Exclude<CommandKind, 'transfer'>,
  account: string,
  amount: bigint,
): Command {
  const movement = { amount: String(amount), currency: 'EUR' }
  const opening = { id: account, owner: 'Drill', currency: 'EUR' }
  const shapes = {
    open: ['', amount > 0n ? { ...opening, openingDeposit: String(amount) } : opening],
    deposit: [`/${account}/deposits`, movement],
    withdraw: [`/${account}/withdrawals`, movement],
    close: [`/${account}/close`, {}],
  } as const
  const [path, body] = shapes[kind]
  const text = JSON.stringify(body)
  return { kind, account, amount, key: randomUUID(), path: `/accounts${path}`, body: text }
}

export function newTransfer(from: string, to: string, amount: bigint): Command {
  const body = JSON.stringify({ from, to, amount: String(amount), currency: 'EUR' })
  const sent = { key: randomUUID(), path: '/transfers', body }
  return { kind: 'transfer', account: from, to, amount, ...sent }
}

type Answer = Pick<HistoryEntry, 'status' | 'version'> & { outcome: Outcome }

/** Sends a command once. Never rejects: what went wrong is an unknown outcome. */
export async function send(commandUrl: string, command: Command, limitMs = 8_000): Promise<Answer> {
  const { kind, key, path, body } = command
  try {
    const response = await fetch(`${commandUrl}${path}`, {
      method: 'POST',
      headers: {
        'Content-Type': 'application/json',
        'Idempotency-Key': key,
        'Correlation-Id': key,
        ...(kind === 'close' ? { 'If-Match': '*' } : {}),
      },
      body,
      signal: AbortSignal.timeout(limitMs),
    })
    const text = await response.text()
    const { status } = response
    const outcome = outcomeOf(status, text)
    const etag = response.headers.get('ETag')
    return { outcome, status, version: outcome === 'ok' ? versionOf(etag, text) : null }
  } catch {
    return { outcome: 'unknown', status: null, version: null }
  }
}

/** Of the account the command is about; of two, which have no ETag, the payer. */
function versionOf(etag: string | null, text: string): number {
  if (etag !== null) return Number(etag.replaceAll('"', ''))
  return (JSON.parse(text) as { from: { version: number } }).from.version
}

function outcomeOf(status: number, text: string): Outcome {
  if (status === 200 || status === 201) return 'ok'
  if (status >= 500 || status === 429 || status === 408) return 'unknown'
  return text.includes('"idempotency_in_progress"') ? 'unknown' : 'refused'
}
