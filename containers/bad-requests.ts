import type { BankClient, BankRequest } from './bank-client.ts'

export type BadRequest = {
  name: string
  path: string
  request: BankRequest
  status: number
  code: string
}

/** Requests that must be refused, each with its problem's stable code, and change nothing. */
export function badRequests(id: string): readonly BadRequest[] {
  const movement = { amount: '100', currency: 'EUR' }
  const bad =
    (path: string) =>
    (name: string, request: BankRequest, status: number, code: string): BadRequest => ({
      name,
      path,
      request,
      status,
      code,
    })
  const deposit = bad(`/accounts/${id}/deposits`)
  const withdrawal = bad(`/accounts/${id}/withdrawals`)
  const invalid = (name: string, body: unknown) => deposit(name, { body }, 400, 'invalid_request')
  const withHeader = (name: string, value: string | undefined): BankRequest => ({
    body: movement,
    headers: { [name]: value },
  })
  const large = { ...movement, reference: 'x'.repeat(1_000_000) }
  const twice = { text: '{"amount":"1","currency":"EUR","amount":"100"}' }
  const plain = { text: 'amount=100', headers: { 'Content-Type': 'text/plain' } }
  const stranger = withHeader('Authorization', 'Bearer sluice_unknown')
  const nobody = withHeader('Authorization', undefined)
  const keyless = withHeader('Idempotency-Key', undefined)
  const dollars = { body: { ...movement, currency: 'USD' } }
  const tooMuch = { body: { ...movement, amount: '999999999' } }
  return [
    invalid('a negative amount', { ...movement, amount: '-100' }),
    invalid('an amount of zero', { ...movement, amount: '0' }),
    invalid('an amount that is a number', { ...movement, amount: 100 }),
    invalid('an amount with a fraction', { ...movement, amount: '1.5' }),
    invalid('an unknown field', { ...movement, balance: '1000000' }),
    invalid('a list in place of an object', [movement]),
    deposit('malformed JSON', { text: '{"amount":' }, 400, 'malformed_json'),
    deposit('an amount given twice', twice, 400, 'malformed_json'),
    deposit('a body of 1 MB', { body: large }, 413, 'body_too_large'),
    deposit('a body that is not JSON', plain, 415, 'unsupported_media_type'),
    deposit('no Idempotency-Key', keyless, 400, 'idempotency_key_missing'),
    deposit('no access key', nobody, 401, 'unauthenticated'),
    deposit('an unknown access key', stranger, 401, 'unauthenticated'),
    deposit('another currency', dollars, 409, 'currency_mismatch'),
    withdrawal('more than there is', tooMuch, 409, 'insufficient_funds'),
    bad('/nothing-here')('an unknown route', { body: movement }, 404, 'route_not_found'),
  ]
}

export const sendBad = (bank: BankClient, bad: BadRequest) => bank.command(bad.path, bad.request)
