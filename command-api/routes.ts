import type { ApiAnswer, ApiRequest, Route } from 'service/route'
import type { Answer } from './answer.ts'
import type { CommandRequest } from './batch.ts'
import { closeAccount, moveFunds, openAccount, type Birth } from './requests.ts'

type Execute = (request: CommandRequest) => Promise<Answer>
type Parse = (request: ApiRequest, birth: Birth) => CommandRequest

/** The commands over REST. */
export function commandRoutes(execute: Execute, birth: Birth): Route[] {
  const command = (path: string, parse: Parse): Route => ({
    method: 'POST',
    path,
    handle: async (request) => httpAnswer(await execute(parse(request, birth))),
  })
  return [
    command('/accounts', openAccount),
    command('/accounts/:id/deposits', moveFunds('Deposit')),
    command('/accounts/:id/withdrawals', moveFunds('Withdraw')),
    command('/accounts/:id/close', closeAccount),
  ]
}

function httpAnswer({ status, body, etag, token, retryAfterSeconds, replayed }: Answer): ApiAnswer {
  return {
    status,
    text: body,
    contentType: status < 400 ? 'application/json' : 'application/problem+json',
    headers: {
      ...(etag === null ? {} : { ETag: etag }),
      ...(token === null ? {} : { 'Consistency-Token': token }),
      ...(retryAfterSeconds === undefined ? {} : { 'Retry-After': String(retryAfterSeconds) }),
      ...(replayed ? { 'Idempotent-Replayed': 'true' } : {}),
    },
  }
}
