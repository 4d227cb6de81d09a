import { randomUUID } from 'node:crypto'
import { z } from 'zod'
import { ContainersError } from './errors.ts'

export type BankClientOptions = {
  commandApiUrl: string
  queryApiUrl: string
  relayUrl: string
  key: string
  signal: AbortSignal
}

/** A request; what is not given is as a well-behaved caller would send it. */
export type BankRequest = {
  method?: string
  body?: unknown
  /** In place of `body`, as it is. */
  text?: string
  headers?: Record<string, string | undefined>
}

export type BankAnswer = { status: number; headers: Headers; body: unknown }
export type BankClient = ReturnType<typeof openBankClient>

const requestMs = 30_000

const accountSchema = z.object({ id: z.string(), ledgerBalance: z.string(), version: z.number() })
export type Account = z.output<typeof accountSchema>

/** Requests to the services from outside, as anybody with an access key makes them. */
export function openBankClient({ key, signal, ...urls }: BankClientOptions) {
  async function send(url: string, request: BankRequest = {}): Promise<BankAnswer> {
    const { body, text = body === undefined ? undefined : JSON.stringify(body) } = request
    const headers = Object.entries({
      Authorization: `Bearer ${key}`,
      ...(text === undefined ? {} : { 'Content-Type': 'application/json' }),
      ...request.headers,
    }).filter((header): header is [string, string] => header[1] !== undefined)
    const response = await fetch(url, {
      method: request.method ?? 'GET',
      headers,
      ...(text === undefined ? {} : { body: text }),
      signal: AbortSignal.any([signal, AbortSignal.timeout(requestMs)]),
    })
    const said = await response.text()
    const isJson = /^application\/(problem\+)?json/.test(response.headers.get('Content-Type') ?? '')
    return {
      status: response.status,
      headers: response.headers,
      body: isJson ? JSON.parse(said) : said,
    }
  }
  const command = (path: string, request: BankRequest) =>
    send(urls.commandApiUrl + path, {
      method: 'POST',
      ...request,
      headers: { 'Idempotency-Key': randomUUID(), ...request.headers },
    })
  return {
    command,
    /** Reads an account as it is after the write that the token names. */
    async read(id: string, token: string): Promise<Account> {
      const answer = await send(`${urls.queryApiUrl}/accounts/${id}`, {
        headers: { 'Consistency-Token': token, Prefer: 'wait=20' },
      })
      const fresh = answer.headers.get('Consistency') === 'fresh'
      if (answer.status === 200 && fresh) return accountSchema.parse(answer.body)
      throw unexpected('reading the account with its token', answer)
    },
    query: (path: string, request?: BankRequest) => send(urls.queryApiUrl + path, request),
    relay: () => send(`${urls.relayUrl}/relay`),
  }
}

/** The account and token of a command that was done. Throws `unexpected_answer` otherwise. */
export function accountOf(answer: BankAnswer): { account: Account; token: string } {
  const token = answer.headers.get('Consistency-Token')
  const body = z.union([z.object({ account: accountSchema }), accountSchema]).safeParse(answer.body)
  if (answer.status !== 201 || token === null || !body.success) {
    throw unexpected('the command', answer)
  }
  return { account: 'account' in body.data ? body.data.account : body.data, token }
}

export function unexpected(what: string, { status, headers, body }: BankAnswer): ContainersError {
  const type = headers.get('Content-Type')
  return new ContainersError(
    'unexpected_answer',
    `${what} was answered ${status} ${type} ${JSON.stringify(body).slice(0, 1_000)}`,
  )
}
