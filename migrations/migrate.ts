import { readdir, readFile } from 'node:fs/promises'
import { ensureTopics } from 'kafka/admin'
import { type Kysely, sql } from 'kysely'
import { type Migration, Migrator } from 'kysely/migration'
import pg from 'pg'
import { openDatabase } from './database.ts'
import { prepareRoles, type RolePasswords } from './roles.ts'
import { topics } from './topics.ts'

export type { RoleName, RolePasswords } from './roles.ts'

export type MigrateOptions = {
  /** URLs of a role that may create roles and schemas, one per database. */
  writeUrl: string
  readUrl: string
  /** None: topics are left alone. */
  brokers: readonly string[]
  passwords: RolePasswords
  /** Told one line per thing done. */
  report: (line: string) => void
}

/**
 * Brings both databases and the topics to this version: roles, then forward-only SQL as
 * sluice_migrator, then topics. Safe to run again and side by side. Throws on the first statement
 * that fails; what was applied before it stays, each file being one transaction.
 */
export async function migrate(options: MigrateOptions): Promise<void> {
  await migrateDatabase('write', options.writeUrl, options)
  await migrateDatabase('read', options.readUrl, options)
  if (options.brokers.length > 0) {
    await ensureTopics({ brokers: options.brokers, topics, report: options.report })
  }
}

async function migrateDatabase(
  side: 'write' | 'read',
  url: string,
  { passwords, report }: MigrateOptions,
): Promise<void> {
  await requireVersion(url, side)
  await using client = await connect(url)
  await prepareRoles(client.pg, passwords)
  report(`${side}: roles`)
  await using database = openDatabase<unknown>({
    url,
    applicationName: 'sluice-migrate',
    maxConnections: 2,
    settings: { role: 'sluice_migrator', lock_timeout: '10s' },
    onError: () => {}, // The statement that was running reports it.
  })
  const migrator = new Migrator({
    db: database,
    provider: { getMigrations: () => sqlFiles(side) },
    migrationTableSchema: 'migrations',
  })
  const { error, results = [] } = await migrator.migrateToLatest()
  for (const result of results) {
    if (result.status === 'Success') report(`${side}: ${result.migrationName}`)
  }
  if (error !== undefined) throw error
}

async function connect(url: string) {
  const client = new pg.Client({ connectionString: url, application_name: 'sluice-migrate' })
  await client.connect()
  return { pg: client, [Symbol.asyncDispose]: () => client.end() }
}

async function requireVersion(url: string, side: string): Promise<void> {
  await using client = await connect(url)
  const { rows } = await client.pg.query<{ version: number }>(
    "select current_setting('server_version_num')::int as version",
  )
  const version = rows[0]?.version ?? 0
  if (version >= 170_000) return
  throw new Error(
    `the ${side} database is PostgreSQL ${Math.floor(version / 10_000)}; 17 is needed`,
  )
}

async function sqlFiles(side: 'write' | 'read'): Promise<Record<string, Migration>> {
  const folder = new URL(`./${side}/`, import.meta.url)
  const names = (await readdir(folder)).filter((name) => name.endsWith('.sql')).toSorted()
  const texts = await Promise.all(names.map((name) => readFile(new URL(name, folder), 'utf8')))
  return Object.fromEntries(
    names.map((name, index) => [
      name.replace(/\.sql$/, ''),
      { up: (database: Kysely<unknown>) => runScript(database, texts[index] ?? '') },
    ]),
  )
}

async function runScript(database: Kysely<unknown>, text: string): Promise<void> {
  await sql.raw(text).execute(database)
}
