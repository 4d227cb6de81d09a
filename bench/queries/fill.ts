import type pg from 'pg'
import type { Progress } from '../progress.ts'
import { connect } from '../servers.ts'
import { accountsFill, type Fill, fillLanes } from './tables.ts'

// Millions of rows in minutes: by SQL, in two lanes, and every index made once its table is full. The
// tables are ordinary ones, logged and vacuumed, before anything is asked.

export async function fillReadTables(
  url: string,
  accounts: number,
  progress: Progress,
): Promise<void> {
  const fill = async (lane: readonly Fill[]) => {
    await using client = await connect(url)
    await client.query(`set synchronous_commit = off; set maintenance_work_mem = '512MB';
      set work_mem = '256MB'`)
    for (const { table, text } of lane) {
      progress.step(`filling ${table}`)
      await withoutIndexes(client, table, () => client.query(text(accounts)))
      await client.query(`vacuum analyze ${table}`)
    }
  }
  await fill([accountsFill])
  await Promise.all(fillLanes.map(fill))
}

/** Indexes that are made of a full table take a tenth of the time, and are the same. */
async function withoutIndexes(
  client: pg.Client,
  table: string,
  fill: () => Promise<unknown>,
): Promise<void> {
  const { rows } = await client.query<{ drop: string; make: string }>(
    `select format('alter table %s drop constraint %I', conrelid::regclass, conname) as drop,
        format('alter table %s add constraint %I %s', conrelid::regclass, conname,
          pg_get_constraintdef(oid)) as make
      from pg_constraint where conrelid = $1::regclass and contype = 'p'
      union all
      select format('drop index %s', indexrelid::regclass), pg_get_indexdef(indexrelid)
      from pg_index where indrelid = $1::regclass and not indisprimary`,
    [table],
  )
  for (const { drop } of rows) await client.query(drop)
  await fill()
  for (const { make } of rows) await client.query(make)
}
