import type { Pool } from 'pg'
import type { Log } from 'service/log'
import { databaseFault } from '../database-fault.ts'
import { untilItPasses } from '../patience.ts'
import type { ProjectionStatus } from '../status.ts'
import { inTransaction, type Transaction } from '../transaction.ts'
import { type Cut, readCuts } from './tiers.ts'
import { defaultEdges, type Edges } from './tiers-edges.ts'

// What TIERS says is put in force when a process starts that runs `tiers`: where it differs from
// what is stored, accounts are sorted anew and counted anew, in one transaction. Readers see the
// old tiers until it commits; the projection waits for it meanwhile, in whichever process it is.

/** A million accounts take some seconds. */
const deadlineMs = 600_000

export type TiersSettings = {
  pool: Pool
  status: ProjectionStatus
  signal: AbortSignal
  log: Log
}

/** Before `tiers` runs here. Waits for Postgres for as long as it is away. */
export async function startTiers(
  { pool, status, signal, log }: TiersSettings,
  configured: ReadonlyMap<string, Edges>,
): Promise<void> {
  try {
    const changed = await untilItPasses(() => putTiersInForce(pool, configured), {
      signal,
      passes: (error) => databaseFault(error) === 'passing',
      onWait: ({ failures, waitMs, error }) => {
        status.trouble = error instanceof Error ? error.message : String(error)
        log[failures > 3 ? 'error' : 'warn'](
          { event: 'tiers_wait', failures, waitMs, err: error },
          'the tiers that TIERS wants are not in force yet',
        )
      },
      onSuccess: () => (status.trouble = undefined),
    })
    if (changed.length === 0) return
    log.info({ event: 'tiers_changed', currencies: changed }, 'accounts are in the tiers of TIERS')
  } catch (error) {
    if (!signal.aborted) throw error
  }
}

/**
 * The currencies that are cut anew. Throws what Postgres throws; a lock not had passes by itself.
 */
export async function putTiersInForce(
  pool: Pool,
  configured: ReadonlyMap<string, Edges>,
): Promise<string[]> {
  if (differing(await readCuts(pool), configured).size === 0) return []
  return inTransaction(pool, deadlineMs, async (transaction) => {
    await transaction.query('set local statement_timeout = 0')
    // Stronger than the row locks with which every batch begins: it waits for those at work.
    await transaction.query('lock table read.tiers_heads in exclusive mode')
    const changed = differing(await readCuts(transaction), configured)
    if (changed.size > 0) await cutAnew(transaction, changed)
    return [...changed.keys()]
  })
}

/**
 * A currency that TIERS does not name is cut as it is without TIERS; null: it is not known at all.
 */
function differing(
  stored: ReadonlyMap<string, Cut>,
  configured: ReadonlyMap<string, Edges>,
): Map<string, Edges | null> {
  const wanted = new Map<string, Edges | null>(configured)
  for (const [currency, { exponent }] of stored) {
    if (wanted.has(currency)) continue
    wanted.set(currency, exponent === null ? null : defaultEdges(exponent))
  }
  return new Map(
    [...wanted].filter(([currency, edges]) => stored.get(currency)?.edges.join() !== edges?.join()),
  )
}

async function cutAnew(
  transaction: Transaction,
  changed: ReadonlyMap<string, Edges | null>,
): Promise<void> {
  const currencies = [...changed.keys()]
  await transaction.query(
    `merge into read.tiers_edges e
      using (select currency, edges::bigint[] as edges
             from unnest($1::text[], $2::text[]) as n(currency, edges)) n
      on e.currency = n.currency
      when matched and n.edges is null then delete
      when matched then update set edges = n.edges
      when not matched then insert (currency, edges) values (n.currency, n.edges)`,
    [currencies, [...changed.values()].map((edges) => edges && `{${edges.join()}}`)],
  )
  await transaction.query(
    `update read.tiers_heads h set tier = width_bucket(h.balance, e.edges)
      from read.tiers_edges e
      where e.currency = h.currency and h.currency = any($1)
        and h.tier <> width_bucket(h.balance, e.edges)`,
    [currencies],
  )
  // What counts the events and their time belongs to no tier of its own: any row may carry it on.
  await transaction.query(
    `with gone as (
        delete from read.tiers_tallies where currency = any($1) returning currency, events, as_of),
      carried as (
        select currency, sum(events) as events, max(as_of) as as_of from gone group by currency)
      insert into read.tiers_tallies (slot, currency, tier, accounts, total, events, as_of)
      select 0, h.currency, h.tier, h.accounts, h.total,
        case row_number() over (partition by h.currency) when 1 then c.events else 0 end, c.as_of
      from (select currency, tier, count(*) as accounts, sum(balance) as total
            from read.tiers_heads where currency = any($1) group by currency, tier) h
      join carried c using (currency)`,
    [currencies],
  )
}
