import { randomUUID } from 'node:crypto'
import type { CommandKind, HistoryEntry, Outcome } from './history.ts'

/** A command as it is sent, and sent again, byte for byte. */
export type Command = {
  kind: CommandKind
  account: string
  amount: bigint
  key: string
  path: string
  body: string
}

export function newCommand(kind: CommandKind, account: string, amount: bigint): Command {
  const movement = { amount: String(amount), currency: 'EUR' }
  const opening = { id: account, owner: 'Drill', currency: 'EUR' }
  const shapes = {
    open: ['', amount > 0n ? { ...opening, openingDeposit: String(amount) } : opening],
    deposit: [`/${account}/deposits`, movement],
    withdraw: [`/${account}/withdrawals`, movement],
    close: [`/${account}/close`, {}],
  } as const
  if (kind === 'transfer') throw new Error('transfers are written in SQL')
  const [path, body] = shapes[kind]
  const text = JSON.stringify(body)
  return { kind, account, amount, key: randomUUID(), path: `/accounts${path}`, body: text }
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
    const version = Number(response.headers.get('ETag')?.replaceAll('"', '') ?? Number.NaN)
    const outcome = outcomeOf(status, text)
    return { outcome, status, version: outcome === 'ok' ? version : null }
  } catch {
    return { outcome: 'unknown', status: null, version: null }
  }
}

function outcomeOf(status: number, text: string): Outcome {
  if (status === 200 || status === 201) return 'ok'
  if (status >= 500 || status === 429 || status === 408) return 'unknown'
  return text.includes('"idempotency_in_progress"') ? 'unknown' : 'refused'
}
