// The real feed for tests: command-api as a process of its own, over a write database into which the
// tests put the history that it shall tell.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { TestDatabases } from 'local-stack/test-databases'
import { waitUntil } from 'local-stack/wait-until'
import { openPool } from 'migrations/database'
import type { OutboxRow } from 'outbox-relay/wire'
import { hashOfAccessKey, newAccessKey } from 'service/access'

const main = fileURLToPath(new URL('../../command-api/main.ts', import.meta.url))

/** Dispose ends the process. `record` writes events as if commands had been answered. */
export async function openTestFeed(databases: TestDatabases) {
  await using cleanup = new AsyncDisposableStack()
  const pool = cleanup.use(
    openPool({
      url: databases.write(),
      applicationName: 'test-feed',
      maxConnections: 2,
      onError: () => {},
    }),
  )
  const folder = await mkdtemp(join(tmpdir(), 'test-feed-'))
  cleanup.defer(() => rm(folder, { recursive: true }))
  const key = newAccessKey()
  const keys = [{ sha256: hashOfAccessKey(key), caller: 'query-api', role: 'service' }]
  const keysFile = join(folder, 'access-keys.json')
  await writeFile(keysFile, JSON.stringify({ keys }))
  const child = spawn(process.execPath, [main], {
    env: {
      PATH: process.env.PATH,
      ACCESS_KEYS_FILE: keysFile,
      COMMAND_API_PORT: '0',
      WRITE_DATABASE_URL: databases.write('sluice_command'),
      HEARTBEAT_SECONDS: '0',
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const exited = once(child, 'exit')
  cleanup.defer(async () => {
    child.kill('SIGTERM')
    await exited
  })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text))
  const url = await waitUntil(() => /"url":"([^"]+)"/.exec(output)?.[1], {
    what: 'the command API to listen',
  })
  const owned = cleanup.move()
  return {
    url,
    key,
    record: (rows: readonly OutboxRow[]) => record(pool, rows),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

async function record(
  pool: Pick<ReturnType<typeof openPool>, 'query'>,
  rows: readonly OutboxRow[],
): Promise<void> {
  const column = (index: number) => rows.map((row) => row[index])
  await pool.query(
    `insert into ledger.account_events (account_id, version, id, type, occurred_at, payload,
        outbox_position, traceparent, correlationid, causationid)
      select n.*, (select coalesce(max(outbox_position), 0) from ledger.account_events)
        + row_number() over (), 't', 'c', 'c'
      from unnest($1::text[], $2::bigint[], $3::uuid[], $4::text[], $5::timestamptz[], $6::json[])
        as n`,
    [column(3), column(4), column(1), column(5), column(6), column(12)],
  )
  await pool.query(
    `insert into ledger.accounts (id, owner, currency, exponent, type, status, ledger_balance, held,
        overdraft_limit, metadata, version, opened_at, as_of)
      select account_id, 'Ada', 'EUR', 2, 'current', 'open', 0, 0, 0, '{}', max(version), now(), now()
      from ledger.account_events where account_id = any($1) group by account_id
      on conflict (id) do update set version = excluded.version`,
    [[...new Set(column(3))]],
  )
}
