// A worker: deposits at a fixed rate, whatever the answers take, each on an account of its own; as
// soon as one is answered the account is read with its token, and then once more without.
import { pause } from 'service/backoff'
import { headerOf, HttpConnection, type HttpRequest } from './http-connection.ts'
import { serveWorker } from './worker.ts'

type PacedInput = {
  commandPort: number
  queryPort: number
  accessKey: string
  accountPrefix: string
  /** That an account has after its deposit. */
  version: number
  perSecond: number
  /** Deposits in all, on accounts 0 up to here. */
  deposits: number
  /** Of these nothing is measured. */
  warmUp: number
}

export type PacedResult = {
  /** From a command's answer to a fresh read; one per deposit. */
  freshMs: number[]
  /** What the same read takes when there is nothing to wait for. */
  readMs: number[]
  /** How late deposits were sent, at worst. */
  latestSendMs: number
}

/** As many connections as there are requests at once. */
class ConnectionPool {
  readonly #idle = new Map<number, HttpConnection[]>()
  readonly #all: HttpConnection[] = []

  async send(port: number, request: HttpRequest) {
    const idle = this.#idle.get(port) ?? []
    this.#idle.set(port, idle)
    let connection = idle.pop()
    while (connection?.closed === true) connection = idle.pop()
    connection ??= await this.#open(port)
    const answer = await connection.send(request)
    idle.push(connection)
    return answer
  }

  async #open(port: number): Promise<HttpConnection> {
    const connection = await HttpConnection.open(port)
    this.#all.push(connection)
    return connection
  }

  [Symbol.dispose](): void {
    for (const connection of this.#all) connection[Symbol.dispose]()
  }
}

await serveWorker(async (input: PacedInput, tick): Promise<PacedResult> => {
  using pool = new ConnectionPool()
  const result: PacedResult = { freshMs: [], readMs: [], latestSendMs: 0 }
  const running: Promise<void>[] = []
  const beginMs = performance.now()
  for (let number = 0; number < input.deposits; number += 1) {
    const dueMs = beginMs + (number / input.perSecond) * 1_000
    const earlyMs = dueMs - performance.now()
    if (earlyMs > 0) await pause(earlyMs)
    else result.latestSendMs = Math.max(result.latestSendMs, -earlyMs)
    running.push(depositAndRead(pool, input, number, result))
    tick(`${number} of ${input.deposits} deposits`)
  }
  await Promise.all(running)
  return result
})

async function depositAndRead(
  pool: ConnectionPool,
  input: PacedInput,
  number: number,
  result: PacedResult,
): Promise<void> {
  const account = `${input.accountPrefix}${number}`
  const access = `Authorization: Bearer ${input.accessKey}\r\n`
  const deposit = await pool.send(input.commandPort, {
    method: 'POST',
    path: `/accounts/${account}/deposits`,
    headers: `${access}Idempotency-Key: paced-${number}\r\n`,
    body: '{"amount":"100","currency":"EUR"}',
  })
  if (deposit.status !== 201) throw new Error(`answered ${deposit.status}: ${deposit.body}`)
  const token = headerOf(deposit.head, 'Consistency-Token') ?? ''
  const wanted = `"version":${input.version},`
  const read = async (headers: string) => {
    const begunMs = performance.now()
    const path = `/accounts/${account}`
    const answer = await pool.send(input.queryPort, { method: 'GET', path, headers })
    const stale = answer.head.includes('\r\nConsistency: stale')
    if (answer.status !== 200 || stale || !answer.body.includes(wanted)) {
      throw new Error(`not fresh: ${answer.status} ${answer.body}`)
    }
    return performance.now() - begunMs
  }
  const freshMs = await read(`${access}Consistency-Token: ${token}\r\nPrefer: wait=10\r\n`)
  const readMs = await read(access)
  if (number < input.warmUp) return
  result.freshMs.push(freshMs)
  result.readMs.push(readMs)
}
