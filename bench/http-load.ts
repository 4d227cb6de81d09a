// A worker: commands by HTTP from a number of connections, each sending its next command when the
// one before is answered. Opens accounts, or sends commands of one kind for a while.
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
} & ({ kind: 'open' } | { kind: CommandKind; warmUpSeconds: number; seconds: number })

/** A refusal is of a withdrawal, a dry run of a deposit. */
export type CommandKind = 'deposit' | 'transfer' | 'dry run' | 'refusal'

export type LoadResult = {
  /** As commands of this kind must be, warm-up included. */
  answered: number
  perSecond: number
  p50Ms: number
  p99Ms: number
  /** CPU that making the load took, in cores. */
  cores: number
}

/** Enough to be drawn from for as long as it is measured, and much less than is refused. */
const opening = 1_000_000
const tooMuch = 1_000_000_000_000

await serveWorker(async (input: LoadInput, tick): Promise<LoadResult> => {
  const beginMs = performance.now()
  const fromMs = input.kind === 'open' ? beginMs : beginMs + input.warmUpSeconds * 1_000
  const untilMs = input.kind === 'open' ? Infinity : fromMs + input.seconds * 1_000
  const latencies: number[] = []
  let sent = 0
  let answered = 0
  const drive = async () => {
    using connection = await HttpConnection.open(input.port)
    for (;;) {
      const sentMs = performance.now()
      if (sentMs >= untilMs || (input.kind === 'open' && sent >= input.accounts)) return
      const { status, body } = await connection.send(command(input, sent++))
      if (status !== (input.kind === 'refusal' ? 409 : 201))
        throw new Error(`answered ${status}: ${body}`)
      answered += 1
      const nowMs = performance.now()
      if (sentMs >= fromMs && nowMs <= untilMs) latencies.push(nowMs - sentMs)
      if (answered % 1_000 === 0) tick(`${answered} commands answered`)
    }
  }
  await Promise.all(Array.from({ length: input.connections }, drive))
  const endMs = performance.now()
  const { user, system } = process.cpuUsage()
  const sorted = latencies.toSorted((a, b) => a - b)
  return {
    answered,
    perSecond: latencies.length / ((Math.min(endMs, untilMs) - fromMs) / 1_000),
    p50Ms: percentile(sorted, 0.5),
    p99Ms: percentile(sorted, 0.99),
    cores: (user + system) / 1_000 / (endMs - beginMs),
  }
})

function command(input: LoadInput, number: number): HttpRequest {
  const access = `Authorization: Bearer ${input.accessKey}\r\n`
  const headers = `${access}Idempotency-Key: ${input.run}-${number}\r\n`
  const account = Math.floor(Math.random() * input.accounts)
  const path = `/accounts/${input.accountPrefix}${account}`
  const hundred = '{"amount":"100","currency":"EUR"}'
  switch (input.kind) {
    case 'open': {
      const id = `${input.accountPrefix}${number}`
      const body = `{"id":"${id}","owner":"Ada Lovelace","currency":"EUR","openingDeposit":"${opening}"}`
      return { method: 'POST', path: '/accounts', headers, body }
    }
    case 'deposit':
      return { method: 'POST', path: `${path}/deposits`, headers, body: hundred }
    case 'dry run':
      return {
        method: 'POST',
        path: `${path}/deposits?dryRun=true`,
        headers: access,
        body: hundred,
      }
    case 'refusal': {
      const body = `{"amount":"${tooMuch}","currency":"EUR"}`
      return { method: 'POST', path: `${path}/withdrawals`, headers, body }
    }
    default: {
      const payee =
        (account + 1 + Math.floor(Math.random() * (input.accounts - 1))) % input.accounts
      const [from, to] = [account, payee].map((each) => `${input.accountPrefix}${each}`)
      const body = `{"from":"${from}","to":"${to}","amount":"1"}`
      return { method: 'POST', path: '/transfers', headers, body }
    }
  }
}
