import type { Progress } from '../progress.ts'
import { bigintArray, type Queryable, queryText } from '../text-query.ts'
import { type Lsn, parseLsn } from './lsn.ts'

// A stream can live and bring nothing: the table was taken out of the publication, say. So the table is
// asked for a row that is not published yet, and then for the end of the log. The row's commit is before
// that end. Once the stream has passed the end, and all that it brought is published, the row is too, or
// the stream never brings it. No clock takes part: a stream that is behind is only behind.

export type Awaited = { position: bigint; end: Lsn }

/** The lowest visible row that is not published, and the end of the log after it. */
export async function awaitedRow(
  db: Queryable,
  { next, gaps }: Progress,
): Promise<Awaited | undefined> {
  const looked = gaps.slice(0, 1_000)
  const [row] = await queryText(db, {
    name: 'relay-awaited',
    text: `select least(
                    (select position from outbox.events where position >= $1
                      order by position limit 1),
                    (select position from unnest($2::bigint[], $3::bigint[]) as gap (first, last)
                      cross join lateral (
                        select position from outbox.events
                         where position between gap.first and gap.last order by position limit 1
                      ) as late limit 1)),
                  pg_current_wal_insert_lsn()`,
    values: [
      String(next),
      bigintArray(looked.map((gap) => gap.first)),
      bigintArray(looked.map((gap) => gap.last)),
    ],
    timeoutMs: 5_000,
  })
  const [position, end] = row ?? []
  if (position === null || position === undefined) return undefined
  return { position: BigInt(position), end: parseLsn(end ?? '') }
}
