import { randomUUID } from 'node:crypto'
import { afterAll, expect, test } from 'vitest'
import type { OutboxRow } from 'outbox-relay/wire'
import { outboxRow, projected, timeOf } from '../test-events.ts'
import { storyOf } from '../test-story.ts'
import { searchRoutes } from './search-reads.ts'
import { wordsOf, wordsWithin } from './search-words.ts'
import { search } from './search.ts'
import { openReadModel } from './test-read-model.ts'

const model = await openReadModel({ projection: search, routes: searchRoutes })
afterAll(() => model[Symbol.asyncDispose]())
const { apply, rebuild } = model

type Item = { kind: string; accountId: string; version: number; score: number }
const find = async (q: string, query: Record<string, string> = {}) =>
  (await model.body('/search', { query: { q, ...query } }))['items'] as Item[]
const accountsIn = (items: readonly Item[]) => items.map(({ accountId }) => accountId)

const after = (version: number) => ({
  version,
  ledgerBalance: '0',
  held: '0',
  available: '0',
  status: 'open',
})

function opened(account: string, owner: string, metadata: object = {}): OutboxRow {
  const opening = { owner, currency: 'EUR', exponent: 2, type: 'current', overdraftLimit: '0' }
  const payload = { accountId: account, ...opening, metadata, after: after(1) }
  return outboxRow({ account, version: 1, type: 'AccountOpened.v1', at: timeOf(1), payload })
}

function renamed(account: string, version: number, owner: string): OutboxRow {
  const payload = { accountId: account, owner, metadata: {}, after: after(version) }
  const type = 'AccountDetailsUpdated.v1'
  return outboxRow({ account, version, type, at: timeOf(version), payload })
}

function paid(account: string, version: number, reference: string | null): OutboxRow {
  const moved = { transactionId: randomUUID(), amount: '10', currency: 'EUR', reference }
  const payload = { accountId: account, ...moved, effectiveAt: timeOf(1), after: after(version) }
  const type = 'FundsDeposited.v1'
  return outboxRow({ account, version, type, at: timeOf(version), payload })
}

test('an owner is found by any of the names, in any case and without accents', async () => {
  await apply([opened('zoe', 'Zoë Müller-Lüdenscheidt')])
  for (const q of ['zoe', 'MÜLLER', 'ludenscheidt muller', 'Zoë  "Müller"']) {
    expect(accountsIn(await find(q))).toEqual(['zoe'])
  }
  expect(await find('zoe')).toMatchObject([
    { kind: 'account', owner: 'Zoë Müller-Lüdenscheidt', version: 1 },
  ])
})

test('misspelt words are found, and right ones come first', async () => {
  await apply([opened('right', 'Ada Lovelace'), opened('near', 'Ada Lovelave')])
  expect(accountsIn(await find('lovelace'))).toEqual(['right', 'near'])
  for (const q of ['lovelase', 'lvelace', 'loevlace', 'adda lovelacce', 'LOVELCE']) {
    expect(accountsIn(await find(q))).toContain('right')
  }
  expect(await find('lavender')).toEqual([])
})

test('a short word may have one letter wrong', async () => {
  await apply([opened('john', 'John Q Carmichael')])
  for (const q of ['jonh', 'jhon', 'joh', 'johnn carmichel']) {
    expect(accountsIn(await find(q))).toContain('john')
  }
})

test('metadata is found, and counts less than the owner', async () => {
  await apply([
    opened('by-data', 'Grace Hopper', { branch: { city: 'Wuppertal' } }),
    opened('by-name', 'Walter Wuppertal'),
  ])
  expect(accountsIn(await find('wuppertal'))).toEqual(['by-name', 'by-data'])
})

test('a movement is found by its reference, numbers exactly as they are', async () => {
  await apply([
    opened('payer', 'Konrad Zuse'),
    paid('payer', 2, 'Invoice 20391 thermostat'),
    paid('payer', 3, null),
    paid('payer', 4, 'Invoice 20392 thermostat'),
  ])
  const [item, ...others] = await find('invoice 20391')
  expect(item).toMatchObject({
    kind: 'movement',
    reference: 'Invoice 20391 thermostat',
    version: 2,
  })
  expect(others).toEqual([])
  expect((await find('termostat')).map(({ version }) => version)).toEqual([4, 2])
})

test('where nothing has all the words, any will do', async () => {
  await apply([opened('one', 'Barbara Liskov'), opened('two', 'Radia Perlman')])
  expect(accountsIn(await find('liskov perlman')).toSorted()).toEqual(['one', 'two'])
})

test('a question with nothing to look for is refused', async () => {
  await expect(find(' -- ')).rejects.toMatchObject({ code: 'invalid_request' })
  await expect(find('')).rejects.toMatchObject({ code: 'invalid_request' })
  expect(await find(`'); drop table read.search_words; --`)).toEqual([])
  expect(await find(`a' | !b & ':*`)).toBeInstanceOf(Array)
})

test('a change of owner takes the old name away, twice delivered or not', async () => {
  const rows = [opened('moved', 'Margaret Hamilton'), renamed('moved', 2, 'Katherine Johnson')]
  await apply([...rows, ...rows])
  await apply(rows)
  expect(accountsIn(await find('katherine'))).toEqual(['moved'])
  expect(await find('hamilton')).toEqual([])
})

test('an account that is rebuilt is found by its history alone', async () => {
  const rows = [
    opened('anew', 'Annie Easley'),
    paid('anew', 2, 'xenon'),
    paid('anew', 3, 'krypton'),
  ]
  await apply(rows)
  await rebuild('anew', rows.slice(0, 2).map(projected))
  expect(accountsIn(await find('xenon'))).toEqual(['anew'])
  expect(await find('krypton')).toEqual([])
  expect(accountsIn(await find('easley'))).toEqual(['anew'])
})

test('a read that brings a token says when it is older', async () => {
  await apply([opened('token', 'Hedy Lamarr')])
  const token = `v1.${Buffer.from('{"token":2}').toString('base64url')}`
  const headers = { 'Consistency-Token': token, Prefer: 'wait=0' }
  const early = await model.get('/search', { query: { q: 'hedy' }, headers })
  expect(early.headers).toMatchObject({ Consistency: 'stale' })
  await apply([paid('token', 2, 'torpedo')])
  const later = await model.get('/search', { query: { q: 'torpedo' }, headers })
  expect(later.headers).toMatchObject({ Consistency: 'fresh' })
  expect((later.body as { items: unknown[] }).items).toHaveLength(1)
})

test('of a story with every type of event, the documents are those of a fold in memory', async () => {
  const story = storyOf(27)
  await apply(story)
  const owners = new Map<string, string>()
  const references = new Set<string>()
  for (const { account, version, event } of story.map(projected)) {
    const { payload } = event
    if ('owner' in payload) {
      const words = [...wordsOf(payload.owner), ...wordsWithin(payload.metadata)]
      owners.set(
        account,
        `${version} ${payload.owner}: ${[...new Set(words)].toSorted().join(' ')}`,
      )
    }
    if (!('transactionId' in payload) || payload.reference === null) continue
    const words = [...new Set(wordsOf(payload.reference))].toSorted().join(' ')
    const { transactionId, reference } = payload
    references.add(`${account} ${version} ${transactionId} ${reference}: ${words}`)
  }
  const words = `array_to_string(array(
    select word from unnest(tsvector_to_array(document)) as word order by word collate "C"), ' ')`
  const { rows: accounts } = await model.pool.query<{ id: string; said: string }>(
    `select account_id as id, version || ' ' || owner || ': ' || ${words} as said
      from read.search_accounts where account_id like 'story-%'`,
  )
  expect(new Map(accounts.map(({ id, said }) => [id, said]))).toEqual(owners)
  const { rows } = await model.pool.query<{ said: string }>(
    `select concat_ws(' ', account_id, version, transaction_id, reference || ':', ${words}) as said
      from read.search_references where account_id like 'story-%'`,
  )
  expect(new Set(rows.map(({ said }) => said))).toEqual(references)
})
