import { databaseFault } from '../database-fault.ts'
import { withLater } from '../guard.ts'
import type { Applied, Origin, ProjectedEvent, Projection, Refusal } from '../projection.ts'
import type { Transaction } from '../transaction.ts'

/**
 * Applies events as the projection does, except that one whose values the database refuses is
 * refused alone (`apply_failed`), with the later events of its account. Works on halves of halves,
 * each under a savepoint: some 2 log2 n statements for each such event, so only for a batch that has
 * failed as a whole. Throws what is no fault of the events.
 */
export async function applyBisecting(
  projection: Projection,
  transaction: Transaction,
  events: readonly ProjectedEvent[],
  origin?: Origin,
): Promise<Applied> {
  const refused = new Map<string, Refusal>()
  let applied = 0
  let duplicates = 0

  async function part(from: number, end: number): Promise<void> {
    const own: number[] = []
    for (let index = from; index < end; index += 1) {
      if (!refused.has(events[index]!.account)) own.push(index)
    }
    const result = own.length === 0 ? none : await tried(own.map((index) => events[index]!))
    if (result === undefined && own.length > 1) {
      const middle = own[own.length >> 1]!
      await part(from, middle)
      return part(middle, end)
    }
    const ownSet = new Set(own)
    for (let index = from; index < end; index += 1) {
      if (!ownSet.has(index)) hold(events[index]!)
    }
    if (result === undefined) return refuse(own[0]!)
    applied += result.applied
    duplicates += result.duplicates
    for (const refusal of result.refusals) {
      refused.set(refusal.account, { ...refusal, index: own[refusal.index]! })
    }
  }

  function hold({ account, version }: ProjectedEvent): void {
    refused.set(account, withLater(refused.get(account)!, version))
  }

  function refuse(index: number): void {
    const { account, version } = events[index]!
    const detail = `version ${version} of account ${account} cannot be stored: ${lastFault}`
    const versions = { wanted: version, seen: version, highest: version }
    refused.set(account, { code: 'apply_failed', index, account, ...versions, held: 1, detail })
  }

  let lastFault = ''
  async function tried(own: readonly ProjectedEvent[]): Promise<Applied | undefined> {
    await transaction.query('savepoint part')
    try {
      const result = await settled(own)
      await transaction.query('release savepoint part')
      return result
    } catch (error) {
      if (databaseFault(error) !== 'data') throw error
      // The message of Postgres may repeat values of the event.
      lastFault = `SQLSTATE ${(error as { code?: string }).code}`
      await transaction.query('rollback to savepoint part')
      await transaction.query('release savepoint part')
      return undefined
    }
  }

  async function settled(own: readonly ProjectedEvent[]): Promise<Applied> {
    try {
      return await projection.apply(transaction, own, origin)
    } finally {
      // What was sent may be why the rest failed: then that is thrown.
      await transaction.settle()
    }
  }

  await part(0, events.length)
  return { applied, duplicates, refusals: [...refused.values()] }
}

const none: Applied = { applied: 0, duplicates: 0, refusals: [] }
