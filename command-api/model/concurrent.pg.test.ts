import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { rules, type Account, type Asked, type Rules } from './test-bank.ts'
import { Clients } from './test-clients.ts'
import { faultsOf, type Told } from './test-history.ts'
import { atTheSameMoment, type Steps } from './test-properties.ts'
import { openService, type Service } from './test-service.ts'
import { failureOf, seed } from './test-steps.ts'

let service: Service
beforeAll(async () => {
  service = await openService()
})
afterAll(() => service[Symbol.asyncDispose]())

describe(`random commands at the same moment (MODEL_SEED=${seed})`, () => {
  it('are answered as in some order that the model and the clock allow', async () => {
    await fc.assert(atTheSameMoment(service), {
      seed,
      numRuns: 30,
      interruptAfterTimeLimit: 25_000,
    })
  })

  const available = (more: bigint) => ({
    available: (account: Account) => rules.available(account) + more,
  })
  it.each<[string, Partial<Rules>, Steps]>([
    ['keeps a unit more', available(-1n), { Withdraw: 1, Transfer: 1 }],
    ['lends a unit more', available(1n), { Withdraw: 1, Transfer: 1 }],
    ['lets a frozen account pay', { stopsDebits: () => false }, { FreezeAccount: 1, Withdraw: 3 }],
    ['reverses twice', { isReversed: () => false }, { Deposit: 1, ReverseTransaction: 3 }],
  ])('a model that %s is caught', async (_, wrong, weights) => {
    const property = atTheSameMoment(service, { ...rules, ...wrong }, weights)
    expect(await failureOf(property)).toBe('AssertionError')
  })
})

describe('the check of what clients were told', () => {
  let told: Told[]
  let rows: Map<string, number>
  beforeAll(async () => {
    const clients = new Clients(service)
    await clients.begin()
    const [a = '', b = ''] = clients.known.accounts
    const ask = (asked: Asked) => clients.ask(asked, 0, false)
    await ask({ kind: 'Withdraw', account: a, amount: 119n, currency: 'EUR' })
    await ask({ kind: 'Withdraw', account: a, amount: 2n, currency: 'EUR' })
    await ask({ kind: 'Deposit', account: a, amount: 1n, currency: 'EUR' })
    await ask({ kind: 'Transfer', from: a, to: b, amount: 5n })
    await ask({ kind: 'Transfer', from: b, to: a, amount: 5n })
    told = clients.history.slice(3)
    rows = new Map(
      clients.known.accounts.slice(0, 3).map((id) => [id, clients.known.versionOf(id)]),
    )
    const rest = clients.history.slice(0, 3)
    check = (changed) => faultsOf(rules, [...rest, ...changed], rows)
  })
  let check: (changed: Told[]) => string[]

  it('finds nothing where each was told what happened', () => {
    expect(told.map(({ answer }) => answer.status)).toEqual([201, 409, 201, 409, 201])
    expect(check(told)).toEqual([])
  })

  const at = (index: number) => told[index] as Told
  it.each<[string, string, () => Told[]]>([
    ['an effect that nobody was told of', 'versions', () => told.slice(1)],
    ['an effect that two were told of', 'versions', () => [...told, at(0)]],
    // Of two that were on their way together: only what they say is wrong then.
    [
      'two answers exchanged',
      'accepted',
      () => [
        { ...at(0), answer: at(2).answer, endMs: at(2).endMs },
        { ...at(2), answer: at(0).answer, startMs: at(0).startMs },
        ...[1, 3, 4].map(at),
      ],
    ],
    [
      'a command that happened and was refused',
      'versions',
      () => [{ ...at(0), answer: at(1).answer }, ...told.slice(1)],
    ],
    [
      'a refusal for which there was no reason',
      'refused',
      () => [
        ...told.filter((_, n) => n !== 1),
        { ...at(1), startMs: at(4).endMs + 1, endMs: at(4).endMs + 2 },
      ],
    ],
    [
      'a refusal by what had long been changed',
      'refused',
      () => [
        ...told.filter((_, n) => n !== 3),
        { ...at(3), asked: { ...at(3).asked, amount: 1n } as Asked },
      ],
    ],
    [
      'an answer that forgets what was answered before',
      'order',
      () => [{ ...at(0), startMs: at(4).endMs + 1, endMs: at(4).endMs + 2 }, ...told.slice(1)],
    ],
  ])('finds %s', (_, name, changed) => {
    expect(check(changed()).map((fault) => fault.split(':')[0])).toContain(name)
  })
})
