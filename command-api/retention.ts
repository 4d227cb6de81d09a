import type { Pool } from 'pg'

// Answers are kept so that commands can be sent again, for as long as callers were told. Then they go,
// each with the operation whose outcome it is, and a key is as new.

/** A statement's worth: short beside commands, and soon over when the process is told to stop. */
const atOnce = 1_000
/** What one look removes at most; what is left waits for the next. */
const statementsAtMost = 50

// An operation that is pending may have been carried out by a process that died right after: its answer
// is all that keeps it from being done again, so it stays until somebody has seen it.
const purgeText = `
with old as (
  select caller, key from ledger.idempotency i
  where answered_at < $1 and not exists (
    select from ledger.operations o where o.caller = i.caller and o.key = i.key and pending)
  order by answered_at limit $2
), done as (
  delete from ledger.operations o using old where o.caller = old.caller and o.key = old.key
)
delete from ledger.idempotency i using old where i.caller = old.caller and i.key = old.key`

const failedText = `
delete from ledger.operations where id in (
  select id from ledger.operations
  where failed and requested_at < $1 order by requested_at limit $2)`

/** Removes what was answered before; how many answers it removed. */
export async function purgeAnswers(pool: Pool, before: Date): Promise<number> {
  const values = [before.toISOString(), atOnce]
  await pool.query({ name: 'purge-failed', text: failedText, values })
  let removed = 0
  for (let statement = 0; statement < statementsAtMost; statement += 1) {
    const { rowCount } = await pool.query({ name: 'purge-answers', text: purgeText, values })
    removed += rowCount ?? 0
    if ((rowCount ?? 0) < atOnce) break
  }
  return removed
}
