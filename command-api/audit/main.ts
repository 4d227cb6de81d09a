// npm run audit: WRITE_DATABASE_URL of a role that may read the ledger and the outbox's positions.
import { openPool } from 'migrations/database'
import { postgresUrl } from 'service/environment'
import { z } from 'zod'
import { audit } from './audit.ts'

const text = (value: unknown) =>
  JSON.stringify(value, (_, each) => (typeof each === 'bigint' ? String(each) : each), 2)

try {
  const { WRITE_DATABASE_URL: url } = z
    .object({ WRITE_DATABASE_URL: postgresUrl })
    .parse(process.env)
  await using pool = openPool({
    url,
    applicationName: 'sluice-audit',
    maxConnections: 1,
    settings: { default_transaction_read_only: 'on' },
    onError: () => {}, // The query that was running reports it.
  })
  const client = await pool.connect()
  try {
    const { accounts, events, divergence } = await audit(client)
    const read = `${accounts} accounts, ${events} events`
    if (divergence === null) process.stdout.write(`audit: ${read}: all as the events say\n`)
    else {
      const { check, at, expected, found } = divergence
      process.stdout.write(`audit: ${check} fails at ${at} (after ${read})\n`)
      process.stdout.write(`expected ${text(expected)}\nfound ${text(found)}\n`)
      process.exitCode = 1
    }
  } finally {
    client.release()
  }
} catch (error) {
  process.stderr.write(`audit: ${(error as Error).message}\n`)
  process.exitCode = 2
}
