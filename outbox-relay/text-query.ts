import type pg from 'pg'

/** A pool, or one connection of it. */
export type Queryable = Pick<pg.ClientBase, 'query'>

export type TextQuery = {
  /** Prepared under this name, once per connection. */
  name: string
  text: string
  values: readonly (string | number | null | readonly string[])[]
  timeoutMs: number
}

export type TextRow = (string | null)[]

const asText = { getTypeParser: () => (value: string) => value }

/**
 * Runs a statement and gives its rows as arrays of PostgreSQL's own text: no number loses a digit
 * and no object is built per row. Rejects after `timeoutMs`; the connection is then of no more use.
 */
export async function queryText(db: Queryable, query: TextQuery): Promise<TextRow[]> {
  const config: pg.QueryArrayConfig & { query_timeout: number } = {
    name: query.name,
    text: query.text,
    values: [...query.values],
    rowMode: 'array',
    types: asText,
    query_timeout: query.timeoutMs,
  }
  const { rows } = await db.query<TextRow>(config)
  return rows
}

/** A bigint[] parameter. */
export function bigintArray(values: readonly bigint[]): string {
  return `{${values.join(',')}}`
}
