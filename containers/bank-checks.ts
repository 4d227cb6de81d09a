import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { waitUntil } from 'local-stack'
import { accountOf, unexpected, type Account, type BankClient } from './bank-client.ts'
import { badRequests, sendBad } from './bad-requests.ts'
import type { Checks } from './checks.ts'

/** The account as it was last seen, with the token of the write that left it so. */
export type Known = { account: Account; token: string }

/** Opens an account, moves money, reads it, and sends what must be refused. */
export async function checkBank(checks: Checks, bank: BankClient): Promise<Known> {
  const opened = await checks.must('an account is opened', async () => {
    const body = { owner: 'Ada Lovelace', currency: 'EUR', openingDeposit: '10000' }
    const known = accountOf(await bank.command('/accounts', { body }))
    assert.equal(known.account.ledgerBalance, '10000')
    return known
  })
  const { id } = opened.account
  await checks.must('a deposit that is sent twice counts once', async () => {
    const request = {
      body: { amount: '1250', currency: 'EUR' },
      headers: { 'Idempotency-Key': randomUUID() },
    }
    const first = await bank.command(`/accounts/${id}/deposits`, request)
    const second = await bank.command(`/accounts/${id}/deposits`, request)
    assert.equal(accountOf(first).account.ledgerBalance, '11250')
    assert.equal(second.headers.get('Idempotent-Replayed'), 'true')
    assert.deepEqual(second.body, first.body)
  })
  const withdrawn = await checks.must('a withdrawal', async () => {
    const body = { amount: '250', currency: 'EUR' }
    const known = accountOf(await bank.command(`/accounts/${id}/withdrawals`, { body }))
    assert.equal(known.account.ledgerBalance, '11000')
    return known
  })
  await checkRead(checks, bank, withdrawn)
  await checkRefusals(checks, bank, id)
  await checks.try('an account that there is not is a problem of the query API too', async () => {
    const answer = await bank.query('/accounts/nobody')
    const { code } = answer.body as { code?: string }
    if (answer.status !== 404 || code !== 'account_not_found') throw unexpected('it', answer)
  })
  return checkDeposit(checks, bank, withdrawn)
}

/** The read model has what the write side answered. */
export async function checkRead(checks: Checks, bank: BankClient, known: Known): Promise<void> {
  await checks.try('it is read with the token, and has the last write', async () => {
    const { id, ledgerBalance, version } = await bank.read(known.account.id, known.token)
    assert.deepEqual({ id, ledgerBalance, version }, known.account)
  })
}

/** One more deposit: the next version proves that nothing was written since the known one. */
export async function checkDeposit(
  checks: Checks,
  bank: BankClient,
  { account }: Known,
): Promise<Known> {
  const known = await checks.must('a deposit, and nothing was written between', async () => {
    const body = { amount: '1', currency: 'EUR' }
    const after = accountOf(await bank.command(`/accounts/${account.id}/deposits`, { body }))
    assert.equal(after.account.version, account.version + 1)
    assert.equal(after.account.ledgerBalance, String(BigInt(account.ledgerBalance) + 1n))
    return after
  })
  await checkRead(checks, bank, known)
  return known
}

/** The relay leads, and nothing is left waiting in the outbox. */
export async function checkRelay(checks: Checks, bank: BankClient): Promise<void> {
  await checks.try('the relay leads by polling, and nothing waits in the outbox', async () => {
    const what = 'a leader without gaps or backlog'
    await waitUntil(
      async () => {
        const answer = await bank.relay()
        const { mode, leader, backlog } = answer.body as Record<string, unknown>
        if (answer.status !== 200 || mode !== 'polling') throw unexpected('GET /relay', answer)
        return typeof leader === 'string' && Number(backlog) <= 1
      },
      { what, deadlineMs: 20_000, intervalMs: 200 },
    )
  })
}

/**
 * An account that the read model has lost comes back from command-api's feed: the next event finds
 * versions missing before it, and the query API's own access key lets it ask for them.
 */
export async function checkRepair(
  checks: Checks,
  bank: BankClient,
  { known, forget }: { known: Known; forget: (id: string) => Promise<void> },
): Promise<Known> {
  await checks.must('the read model loses an account', () => forget(known.account.id))
  const after = await checkDeposit(checks, bank, known)
  await checks.try('which was repaired from the feed', async () => {
    const answer = await bank.query('/projections')
    const { items } = answer.body as { items?: Record<string, unknown>[] }
    const { repaired, quarantined, repairTrouble } = items?.[0] ?? {}
    const isRepaired = repaired === 1 && quarantined === 0 && repairTrouble === null
    if (answer.status !== 200 || !isRepaired) throw unexpected('GET /projections', answer)
  })
  return after
}

async function checkRefusals(checks: Checks, bank: BankClient, id: string): Promise<void> {
  for (const bad of badRequests(id)) {
    await checks.try(`refused: ${bad.name}`, async () => {
      const answer = await sendBad(bank, bad)
      const { code } = answer.body as { code?: string }
      const isProblem = answer.headers.get('Content-Type')?.startsWith('application/problem+json')
      if (answer.status === bad.status && code === bad.code && isProblem) return
      throw unexpected(`it, which should be ${bad.status} ${bad.code},`, answer)
    })
  }
}
