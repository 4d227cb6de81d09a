import { randomUUID } from 'node:crypto'
import { setImmediate as turn } from 'node:timers/promises'
import { waitUntil } from 'local-stack'
import { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { expireHolds } from '../expiry.ts'
import type { Asked } from './test-bank.ts'
import { Clients } from './test-clients.ts'
import type { Told } from './test-history.ts'
import { openService, type Service } from './test-service.ts'
import { holdSeconds } from './test-steps.ts'

// Races by name, each run until every outcome that it can have was seen. What the clients were told
// and the tables are checked after every one, as for random commands.

let service: Service
beforeAll(async () => {
  service = await openService()
})
afterAll(() => service[Symbol.asyncDispose]())

const money = (kind: 'Deposit' | 'Withdraw', account: string, amount: bigint): Asked => ({
  kind,
  account,
  amount,
  currency: 'EUR',
})

const codeOf = ({ answer }: Told) => (answer.status < 300 ? 'done' : String(answer.json.code))

/** Accounts of a round: `a` with 100 and an overdraft of 20, `b` with nothing. */
async function round() {
  const clients = new Clients(service)
  const [a = '', b = ''] = clients.known.accounts
  const opening = { kind: 'OpenAccount', owner: 'Ada', currency: 'EUR', type: 'current' } as const
  const open = (account: string, overdraftLimit: bigint, openingDeposit: bigint | null) =>
    clients.ask({ ...opening, account, overdraftLimit, openingDeposit }, 0, false)
  await Promise.all([open(a, 20n, 100n), open(b, 0n, null)])
  return { clients, a, b }
}

/** Sends what `race` gives at the same moment, now one first, now the other. */
async function outcomes(
  wanted: readonly string[],
  race: (clients: Clients, a: string, b: string) => Asked[],
): Promise<void> {
  const seen = new Set<string>()
  for (let rounds = 0; rounds < 150 && wanted.some((each) => !seen.has(each)); rounds += 1) {
    const { clients, a, b } = await round()
    const asked = race(clients, a, b).map((each, client) => ({ each, client }))
    const told = new Map<number, Told>()
    const sending = (rounds % 2 === 0 ? asked : asked.toReversed()).map(
      async ({ each, client }, place) => {
        for (let turns = 0; turns < place * (rounds % 7); turns += 1) await turn()
        told.set(client, await clients.ask(each, client, false))
      },
    )
    await Promise.all(sending)
    seen.add(asked.map(({ client }) => codeOf(told.get(client)!)).join(', '))
    expect(await service.faultsIn(clients)).toEqual([])
  }
  expect([...seen].toSorted()).toEqual(wanted.toSorted())
}

describe('at the same moment', () => {
  it('two withdrawals of the same money: one gets it', async () => {
    await outcomes(['done, insufficient_funds', 'insufficient_funds, done'], (_, a) => [
      money('Withdraw', a, 100n),
      money('Withdraw', a, 100n),
    ])
  })

  it('eight withdrawals of money for two: two get it', async () => {
    for (let rounds = 0; rounds < 10; rounds += 1) {
      const { clients, a } = await round()
      const all = Array.from({ length: 8 }, (_, n) =>
        clients.ask(money('Withdraw', a, 60n), n, false),
      )
      const codes = (await Promise.all(all)).map(codeOf).toSorted()
      expect(codes).toEqual([
        'done',
        'done',
        ...Array.from({ length: 6 }, () => 'insufficient_funds'),
      ])
      expect(await service.faultsIn(clients)).toEqual([])
    }
  })

  it('a transfer and the close of who is paid: never closed with money on it', async () => {
    await outcomes(['done, balance_not_zero', 'account_closed, done'], (_, a, b) => [
      { kind: 'Transfer', from: a, to: b, amount: 10n },
      { kind: 'CloseAccount', account: b },
    ])
  })

  it('a transfer of all there is and the close of who pays: closed only after it', async () => {
    await outcomes(['done, done', 'done, balance_not_zero'], (_, a, b) => [
      { kind: 'Transfer', from: a, to: b, amount: 100n },
      { kind: 'CloseAccount', account: a },
    ])
  })

  it('a freeze and a withdrawal, in either order', async () => {
    await outcomes(['done, done', 'account_frozen, done'], (_, a) => [
      money('Withdraw', a, 10n),
      { kind: 'FreezeAccount', account: a, scope: 'debits' },
    ])
  })

  it('a capture and the expiry of its hold: one of them ends it', async () => {
    const seen = new Set<string>()
    const later = new Date(service.clock.now().getTime() + (holdSeconds + 1) * 1_000)
    const [first, second] = service.apis
    for (let rounds = 0; rounds < 150 && seen.size < 2; rounds += 1) {
      const { clients, a } = await round()
      await clients.ask({ kind: 'PlaceHold', account: a, amount: 30n, currency: 'EUR' }, 0, false)
      const hold = clients.known.holds[0]?.id ?? ''
      const expiry = async () => {
        for (let turns = 0; turns < rounds % 9; turns += 1) await turn()
        const startMs = performance.now()
        await expireHolds(
          second.pool,
          async (request) => {
            const answer = await second.operations.execute(request)
            if ('holdId' in request.command && request.command.holdId === hold) {
              const asked = { kind: 'ExpireHold', account: a, hold } as const
              const at = later.toISOString()
              const json = JSON.parse(answer.body)
              const told = { ...answer, type: null, headers: headersOf(answer), json }
              const endMs = performance.now()
              clients.history.push({ asked, answer: told, startMs, endMs, at })
            }
            return answer
          },
          { now: () => later, newId: randomUUID },
        )
      }
      // Born before the hold was due, however late it is executed.
      const capture: Asked = { kind: 'CaptureHold', account: a, hold, amount: 10n }
      const capturing = clients.ask(capture, 0, false)
      const [told] = await Promise.all([capturing, expiry()])
      seen.add(codeOf(told))
      expect(await service.faultsIn(clients)).toEqual([])
      const { rows } = await first.pool.query('select status from ledger.holds where id = $1', [
        hold,
      ])
      expect(rows[0].status).toBe(codeOf(told) === 'done' ? 'captured' : 'expired')
    }
    expect(seen).toEqual(new Set(['done', 'hold_not_active']))
  })
})

const headersOf = ({ etag, token }: { etag: string | null; token: string | null }) =>
  new Headers({ ...(etag && { etag }), ...(token && { 'consistency-token': token }) })

describe('transfers back and forth', () => {
  it('by two servers at once all happen, and no deadlock is met', async () => {
    const { clients, a, b } = await round()
    await clients.ask(money('Deposit', b, 100n), 0, false)
    const both = Array.from({ length: 200 }, (_, n) => {
      const [from, to] = n % 2 === 0 ? [a, b] : [b, a]
      return clients.ask({ kind: 'Transfer', from, to, amount: 1n }, n % 4 < 2 ? 0 : 1, false)
    })
    const codes = (await Promise.all(both)).map(codeOf)
    expect(new Set(codes)).toEqual(new Set(['done']))
    expect(clients.unknown).toBe(0)
    expect(await service.faultsIn(clients)).toEqual([])
    expect(await deadlocks()).toBe(0)
  })

  it('beside somebody who locks in another order are tried again, and nobody is told of it', async () => {
    const { clients, a, b } = await round()
    const before = await deadlocks()
    await using stranger = await connected()
    // The other side of a deadlock finds it first, and is its victim.
    await stranger.query(`set deadlock_timeout = '60s'`)
    await stranger.query('begin')
    await stranger.query('select from ledger.accounts where id = $1 for update', [b])
    const transfer = clients.ask({ kind: 'Transfer', from: a, to: b, amount: 1n }, 0, false)
    await waitUntil(async () => (await waitingForLocks()) > 0, { what: 'the transfer to wait' })
    await stranger.query('select from ledger.accounts where id = $1 for update', [a])
    await waitUntil(async () => (await deadlocks()) > before, { what: 'the deadlock' })
    await stranger.query('commit')
    expect(codeOf(await transfer)).toBe('done')
    expect(clients.unknown).toBe(0)
    expect(await service.faultsIn(clients)).toEqual([])
  })

  it('beside somebody who never lets go end in a clear 503, and their key brings the truth', async () => {
    const { clients, a, b } = await round()
    await using stranger = await connected()
    await stranger.query('begin')
    await stranger.query('select from ledger.accounts where id = $1 for update', [b])
    const transfer = clients.ask({ kind: 'Transfer', from: a, to: b, amount: 1n }, 0, false)
    await waitUntil(() => clients.unknown > 0, { what: 'an open outcome', deadlineMs: 15_000 })
    await stranger.query('commit')
    expect(codeOf(await transfer)).toBe('done')
    expect(await service.faultsIn(clients)).toEqual([])
  })
})

async function connected() {
  const client = new Client({ connectionString: service.apis[0].databases.write() })
  await client.connect()
  return Object.assign(client, { [Symbol.asyncDispose]: () => client.end() })
}

async function deadlocks(): Promise<number> {
  await service.admin.query('select pg_stat_clear_snapshot()')
  const { rows } = await service.admin.query(
    'select deadlocks::int from pg_stat_database where datname = current_database()',
  )
  return rows[0].deadlocks
}

async function waitingForLocks(): Promise<number> {
  const { rows } = await service.admin.query(
    `select count(*)::int as waiting from pg_stat_activity
     where datname = current_database() and wait_event_type = 'Lock'`,
  )
  return rows[0].waiting
}
