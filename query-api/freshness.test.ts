import { getEventListeners } from 'node:events'
import { encodeToken } from 'command-api/token'
import { httpProblem, type Problem } from 'service/problem'
import type { ApiRequest } from 'service/route'
import { expect, test, vi } from 'vitest'
import { leastOf, openFreshness, preferredWaitSeconds } from './freshness.ts'
import { LagWatch } from './lag-watch.ts'

test.each([
  [undefined, undefined],
  ['', undefined],
  ['wait=5', 5],
  ['Wait = "7"', 7],
  ['respond-async, wait=3; strict', 3],
  ['wait=0', 0],
  ['wait=31', 30],
  ['wait=999999999', 30],
  ['wait=4, wait=9', 4],
  ['foo="a, wait=1", wait=2', 2],
  ['wait', undefined],
  ['wait=-1', undefined],
  ['wait=1.5', undefined],
  ['wait=soon', undefined],
  ['waiting=4', undefined],
  ['foo="unfinished, wait=4', 4],
])('Prefer: %s asks for %s seconds', (header, seconds) => {
  expect(preferredWaitSeconds(header)).toBe(seconds)
})

function request(
  headers: Record<string, string>,
  signal = new AbortController().signal,
): ApiRequest {
  const byName = new Map(Object.entries(headers).map(([name, text]) => [name.toLowerCase(), text]))
  return {
    method: 'GET',
    path: '/accounts/a',
    params: {},
    query: {},
    body: undefined,
    header: (name) => byName.get(name.toLowerCase()),
    caller: { name: 'test', role: 'operator' },
    trace: { traceparent: '', traceId: '', correlationId: '' },
    signal,
  }
}

const token = (versions: Record<string, number>) => encodeToken(new Map(Object.entries(versions)))
const answer = async () => ({ status: 200, body: 'read' })
const running = new AbortController().signal

/** Versions that move on each time they are looked at. */
function advancing(...states: Record<string, number>[]) {
  let looked = 0
  return {
    looks: () => looked,
    versionsOf: async () =>
      new Map(Object.entries(states[Math.min(looked++, states.length - 1)] ?? {})),
  }
}

test('without a token nothing is waited for and nothing is said', async () => {
  const { versionsOf, looks } = advancing({})
  const freshness = openFreshness({ versionsOf, signal: running })
  expect(await freshness.read(request({ Prefer: 'wait=5' }), answer)).toEqual({
    status: 200,
    body: 'read',
  })
  expect(looks()).toBe(0)
})

test('a token that is reached while waiting is answered fresh', async () => {
  const { versionsOf, looks } = advancing({}, { a: 1 }, { a: 2, b: 7 })
  const freshness = openFreshness({ versionsOf, signal: running })
  const given = request({ 'Consistency-Token': token({ a: 2, b: 7 }), Prefer: 'wait=10' })
  const { headers } = await freshness.read(given, answer)
  expect(headers).toEqual({ 'Preference-Applied': 'wait=10', Consistency: 'fresh' })
  expect(looks()).toBe(3)
  expect(freshness.waiters()).toBe(0)
})

test('a token not reached in time is answered stale, naming up to five accounts', async () => {
  const { versionsOf } = advancing({ a: 3 })
  const freshness = openFreshness({ versionsOf, signal: running })
  const wanted = token({ a: 5, b: 1, c: 1, d: 1, e: 1, f: 1 })
  const given = request({ 'Consistency-Token': wanted, Prefer: 'wait=0' })
  const { headers } = await freshness.read(given, answer)
  expect(headers).toEqual({
    'Preference-Applied': 'wait=0',
    Consistency: 'stale',
    'Consistency-Lagging': 'a=3/5, b=0/1, c=0/1, d=0/1, e=0/1',
  })
})

test('a strict read is refused instead, and may come again', async () => {
  const { versionsOf } = advancing({})
  const freshness = openFreshness({ versionsOf, signal: running })
  const given = request({
    'Consistency-Token': token({ a: 1 }),
    'Consistency-Mode': 'strict',
    Prefer: 'wait=0',
  })
  const refusal = (await freshness.read(given, answer).catch((error: unknown) => error)) as Problem
  expect(refusal.code).toBe('projection_late')
  expect(refusal.kind.status).toBe(503)
  expect(refusal.details.headers).toMatchObject({ Consistency: 'stale', 'Retry-After': '1' })
})

test('a refusal of the read itself says how fresh it is', async () => {
  const { versionsOf } = advancing({})
  const freshness = openFreshness({ versionsOf, signal: running })
  const given = request({ 'Consistency-Token': token({ a: 1 }), Prefer: 'wait=0' })
  const refusal = await freshness
    .read(given, async () => {
      throw httpProblem('route_not_found')
    })
    .catch((error: unknown) => error as Problem)
  expect(refusal).toMatchObject({ details: { headers: { Consistency: 'stale' } } })
})

test.each(['nonsense', 'v1.', 'v2.e30', `${token({ a: 1 })}, ${token({ a: 1 })}`])(
  'a token that no command gave is refused: %s',
  async (text) => {
    const { versionsOf } = advancing({})
    const freshness = openFreshness({ versionsOf, signal: running })
    const given = request({ 'Consistency-Token': text })
    await expect(freshness.read(given, answer)).rejects.toMatchObject({ code: 'invalid_token' })
  },
)

test('an unknown consistency mode is refused, since it may have meant strict', async () => {
  const { versionsOf } = advancing({})
  const freshness = openFreshness({ versionsOf, signal: running })
  const given = request({ 'Consistency-Token': token({ a: 1 }), 'Consistency-Mode': 'strickt' })
  await expect(freshness.read(given, answer)).rejects.toMatchObject({ code: 'invalid_header' })
})

test('beyond the limit of waiters a read is refused; one that need not wait is answered', async () => {
  const stop = new AbortController()
  const { versionsOf } = advancing({ a: 1 })
  const freshness = openFreshness({ versionsOf, signal: stop.signal, waiterLimit: 2 })
  const waiting = request({ 'Consistency-Token': token({ a: 2 }), Prefer: 'wait=30' })
  const both = [freshness.read(waiting, answer), freshness.read(waiting, answer)]
  await vi.waitUntil(() => freshness.waiters() === 2)
  await expect(freshness.read(waiting, answer)).rejects.toMatchObject({ code: 'too_many_waiters' })
  const reached = request({ 'Consistency-Token': token({ a: 1 }) })
  expect((await freshness.read(reached, answer)).headers).toEqual({ Consistency: 'fresh' })
  stop.abort()
  const answers = await Promise.all(both)
  expect(answers.map(({ headers }) => headers?.Consistency)).toEqual(['stale', 'stale'])
  expect(freshness.waiters()).toBe(0)
})

test('who hangs up is waited for no longer, and no longer counted', async () => {
  const { versionsOf } = advancing({ a: 1 })
  const freshness = openFreshness({ versionsOf, signal: running })
  const client = new AbortController()
  const headers = { 'Consistency-Token': token({ a: 2 }), Prefer: 'wait=30' }
  const waiting = freshness.read(request(headers, client.signal), answer)
  await vi.waitUntil(() => freshness.waiters() === 1)
  client.abort()
  expect(await waiting).toMatchObject({ headers: { Consistency: 'stale' } })
  expect(freshness.waiters()).toBe(0)
})

test('all who wait are looked for together, one look at a time', async () => {
  let looks = 0
  let running = 0
  let most = 0
  const versionsOf = async (accounts: readonly string[]) => {
    looks += 1
    running += 1
    most = Math.max(most, running)
    await new Promise((resolve) => setTimeout(resolve, 1))
    running -= 1
    return new Map(looks < 5 ? [] : accounts.map((account) => [account, 1]))
  }
  const freshness = openFreshness({ versionsOf, signal: new AbortController().signal })
  const reads = Array.from({ length: 100 }, (_, number) =>
    freshness.read(request({ 'Consistency-Token': token({ [`a${number}`]: 1 }) }), answer),
  )
  const answers = await Promise.all(reads)
  expect(new Set(answers.map(({ headers }) => headers?.Consistency))).toEqual(new Set(['fresh']))
  expect(most).toBe(1)
  expect(looks).toBeLessThan(10)
})

test('what a look meets is told to those it was for, and to nobody after them', async () => {
  let looks = 0
  const versionsOf = async () => {
    looks += 1
    if (looks === 1) throw new Error('away')
    return new Map([['a', 1]])
  }
  const freshness = openFreshness({ versionsOf, signal: running })
  const given = request({ 'Consistency-Token': token({ a: 1 }) })
  await expect(freshness.read(given, answer)).rejects.toThrow('away')
  expect((await freshness.read(given, answer)).headers).toEqual({ Consistency: 'fresh' })
})

test('a caller who waits again and again is not listened to more and more', async () => {
  const { signal } = new AbortController()
  const { versionsOf } = advancing({ a: 1 }, { a: 1 }, { a: 2 }, { a: 2 }, { a: 3 })
  const watch = new LagWatch({ versionsOf, signal: running })
  for (const version of [2, 3]) {
    const wanted = new Map([['a', version]])
    const wait = { token: wanted, waitMs: 20_000, hangUp: () => signal }
    expect(await watch.lagsOf(wait)).toEqual([])
    expect(getEventListeners(signal, 'abort')).toEqual([])
  }
})

test('an answer from several projections is as far as the one that is least far', async () => {
  const at = (versions: Record<string, number>) => ({
    versions: async () => new Map(Object.entries(versions)),
  })
  const least = leastOf([at({ a: 3, b: 1 }), at({ a: 2, c: 9 })])
  const nowhere = { query: () => Promise.reject(new Error('not asked')) }
  expect(await least.versions(nowhere, ['a', 'b', 'c', 'd'])).toEqual(
    new Map([
      ['a', 2],
      ['b', 0],
      ['c', 0],
      ['d', 0],
    ]),
  )
})
