import pg from 'pg'

/** A connection for looking, which outlives nothing: opened for one question. */
export async function ask<Row extends pg.QueryResultRow>(
  url: string,
  text: string,
  values: unknown[] = [],
): Promise<Row[]> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 3_000 })
  client.on('error', () => {}) // The query reports it.
  await client.connect()
  try {
    return (await client.query<Row>(text, values)).rows
  } finally {
    await client.end()
  }
}

/** What the client says of a connection that is gone, where no code says it. */
const goneTexts = /^(?:Connection terminated|timeout expired|Client .* is not queryable)/
const goneCodes = /^(?:ECONNREFUSED|ECONNRESET|EPIPE|ETIMEDOUT)$/
/** The server goes down, comes up or takes no more connections. */
const awayStates = /^(?:08|57P0[1-3]|53300)/

/** The server cannot be reached; whatever else went wrong is nothing that a drill does. */
export function isAway(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  const code = 'code' in error ? String(error.code) : ''
  if (error instanceof pg.DatabaseError) return awayStates.test(code)
  return goneCodes.test(code) || goneTexts.test(error.message)
}
