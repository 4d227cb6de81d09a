import { type Queryable, queryText } from './text-query.ts'

/**
 * Which transactions are open, the oldest by name, as a sentence's end; undefined when there is none.
 * A new slot waits for every one of the server that has written; a handover only for the `writers` of
 * outbox.events.
 */
export async function openTransactions(
  db: Queryable,
  writers: boolean,
): Promise<string | undefined> {
  const [row] = await queryText(db, {
    name: 'relay-open',
    text: `with open as (
             select 'pid ' || pid as who, xact_start as since, query_start
               from pg_stat_activity as session
              where pid <> pg_backend_pid() and xact_start is not null
                and case when $1::boolean then exists (
                      select from pg_locks
                       where pg_locks.pid = session.pid and locktype = 'relation' and granted
                         and mode = 'RowExclusiveLock' and relation = 'outbox.events'::regclass)
                    else backend_xid is not null end
             union all
             select 'prepared transaction ' || gid, prepared, null from pg_prepared_xacts
           )
           select who, count(*) over (),
                  round(extract(epoch from clock_timestamp() - since)),
                  to_char(query_start at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
             from open order by since limit 1`,
    values: [String(writers)],
    timeoutMs: 5_000,
  })
  if (row === undefined) return undefined
  const [who, count, seconds, queryStart] = row
  const query = queryStart === null ? '' : `, its last statement began ${queryStart}`
  return `${count} open, the oldest ${who}, for ${seconds} s${query}`
}
