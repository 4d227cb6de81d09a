// A worker: commands by HTTP from a number of connections, each sending its next command when the
// one before is answered. Opens accounts, or deposits on them for a while.
import { HttpConnection, type HttpRequest } from './http-connection.ts'
import { percentile } from './rounds.ts'
import { serveWorker } from './worker.ts'

export type LoadInput = {
  port: number
  accessKey: string
  connections: number
  /** Accounts are this and a number from 0 on. */
  accountPrefix: string
  accounts: number
  /** Makes idempotency keys this run's own. */
  run: string
} & ({ kind: 'open' } | { kind: 'deposit'; warmUpSeconds: number; seconds: number })

export type LoadResult = {
  /** Answered 201, warm-up included. */
  accepted: number
  perSecond: number
  p50Ms: number
  p99Ms: number
  /** CPU that making the load took, in cores. */
  cores: number
}

await serveWorker(async (input: LoadInput, tick): Promise<LoadResult> => {
  const beginMs = performance.now()
  const fromMs = input.kind === 'open' ? beginMs : beginMs + input.warmUpSeconds * 1_000
  const untilMs = input.kind === 'open' ? Infinity : fromMs + input.seconds * 1_000
  const latencies: number[] = []
  let sent = 0
  let accepted = 0
  const drive = async () => {
    using connection = await HttpConnection.open(input.port)
    for (;;) {
      const sentMs = performance.now()
      if (sentMs >= untilMs || (input.kind === 'open' && sent >= input.accounts)) return
      const { status, body } = await connection.send(command(input, sent++))
      if (status !== 201) throw new Error(`answered ${status}: ${body}`)
      accepted += 1
      const nowMs = performance.now()
      if (sentMs >= fromMs && nowMs <= untilMs) latencies.push(nowMs - sentMs)
      if (accepted % 1_000 === 0) tick(`${accepted} commands answered`)
    }
  }
  await Promise.all(Array.from({ length: input.connections }, drive))
  const endMs = performance.now()
  const { user, system } = process.cpuUsage()
  const sorted = latencies.toSorted((a, b) => a - b)
  return {
    accepted,
    perSecond: latencies.length / ((Math.min(endMs, untilMs) - fromMs) / 1_000),
    p50Ms: percentile(sorted, 0.5),
    p99Ms: percentile(sorted, 0.99),
    cores: (user + system) / 1_000 / (endMs - beginMs),
  }
})

function command(input: LoadInput, number: number): HttpRequest {
  const headers = `Authorization: Bearer ${input.accessKey}\r\nIdempotency-Key: ${input.run}-${number}\r\n`
  if (input.kind === 'open') {
    const id = `${input.accountPrefix}${number}`
    const body = `{"id":"${id}","owner":"Ada Lovelace","currency":"EUR"}`
    return { method: 'POST', path: '/accounts', headers, body }
  }
  const account = Math.floor(Math.random() * input.accounts)
  const path = `/accounts/${input.accountPrefix}${account}/deposits`
  return { method: 'POST', path, headers, body: '{"amount":"100","currency":"EUR"}' }
}
