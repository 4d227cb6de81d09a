import { randomBytes } from 'node:crypto'
import { Client } from 'pg'
import { inject } from 'vitest'
import { StackError } from './errors.ts'
import { asRole } from './service-environments.ts'
import type { RoleName } from './secrets.ts'
import type { TestTemplates } from './test-servers.ts'
import { waitUntil } from './wait-until.ts'

export type TestDatabases = {
  /** The write database's URL for a role; without one, for the superuser. */
  write(role?: RoleName): string
  read(role?: RoleName): string
  /** Drops both. Throws `connections_left_open`, after dropping, when somebody is still connected. */
  [Symbol.asyncDispose](): Promise<void>
}

/** A migrated, empty write and read database of the caller's own; for one test or one file. */
export async function testDatabases(): Promise<TestDatabases> {
  const templates: TestTemplates = inject('testTemplates')
  const id = randomBytes(5).toString('hex')
  const names = { write: `test_write_${id}`, read: `test_read_${id}` }
  for (const side of sides) {
    await asSuperuser(side, (client) => cloneDatabase(client, templates[side], names[side]))
  }
  const url = (side: Side, role?: RoleName) => {
    const own = Object.assign(new URL(serverOf(side)), { pathname: `/${names[side]}` }).href
    return role === undefined ? own : asRole(own, role, templates.passwords[role])
  }
  return {
    write: (role) => url('write', role),
    read: (role) => url('read', role),
    async [Symbol.asyncDispose]() {
      const drops = sides.map((side) =>
        asSuperuser(side, (client) => dropDatabase(client, names[side])),
      )
      // All of them before one is thrown.
      await Promise.allSettled(drops)
      await Promise.all(drops)
    },
  }
}

/** The run's Kafka, shared by all tests: use keys or topics of your own. */
export function testBrokers(): string[] {
  const brokers = inject('brokers')
  if (brokers.length > 0) return brokers
  throw new StackError('config_invalid', 'only tests named *.kafka.test.ts are given a Kafka')
}

async function cloneDatabase(client: Client, template: string, name: string): Promise<void> {
  const [from, to] = [client.escapeIdentifier(template), client.escapeIdentifier(name)]
  await client.query(`create database ${to} template ${from}`)
  // Who may do what with a database as a whole is not part of its content, and is not cloned.
  await client.query(`revoke all on database ${to} from public`)
  const { rows } = await client.query<{ statement: string }>(
    `select format('grant %s on database %I to %s', privilege_type, $2::text,
                   case grantee when 0 then 'public' else quote_ident(grantee::regrole::text) end)
              as statement
       from pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba)))
      where datname = $1`,
    [template, name],
  )
  for (const { statement } of rows) await client.query(statement)
}

async function dropDatabase(client: Client, name: string): Promise<void> {
  const connections = async () => {
    const { rows } = await client.query<{ who: string }>(
      `select format('%s as %s, last: %s', application_name, usename, left(query, 80)) as who
         from pg_stat_activity where datname = $1 and backend_type = 'client backend'`,
      [name],
    )
    return rows.map(({ who }) => who)
  }
  // A connection that was just ended takes the server a moment to forget.
  const none = async () => (await connections()).length === 0
  const quiet = await waitUntil(none, { what: 'no connections', deadlineMs: 2_000 }).catch(
    () => false,
  )
  const left = quiet ? [] : await connections()
  // The walsender of a relay that was killed while it made its slot hears of that some seconds later.
  await waitUntil(() => noneReadsTheLog(client, name), {
    what: `every walsender of ${name} to end`,
    deadlineMs: 20_000,
  })
  await client.query(`drop database ${client.escapeIdentifier(name)} with (force)`)
  if (left.length === 0) return
  throw new StackError(
    'connections_left_open',
    `the test left ${left.length} connections open:\n${left.join('\n')}`,
  )
}

async function noneReadsTheLog(client: Client, name: string): Promise<boolean> {
  const text = 'select from pg_replication_slots where database = $1 and active'
  return (await client.query(text, [name])).rowCount === 0
}

const sides = ['write', 'read'] as const
type Side = (typeof sides)[number]

/** Two servers where TEST_POSTGRES_SERVERS is 2. */
const serverOf = (side: Side): string =>
  inject(side === 'write' ? 'postgresUrl' : 'readPostgresUrl')

async function asSuperuser<T>(side: Side, work: (client: Client) => Promise<T>): Promise<T> {
  const client = new Client({ connectionString: serverOf(side) })
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}
