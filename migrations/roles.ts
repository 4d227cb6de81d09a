import type pg from 'pg'

/** Every role, and what it is beyond a login. design: each process has one and no more than it needs. */
const attributes = {
  sluice_migrator: 'login',
  sluice_maintenance: 'login',
  sluice_command: 'login',
  sluice_relay: 'login',
  sluice_cdc: 'login replication',
  sluice_projector: 'login',
  sluice_query: 'login',
} as const

export type RoleName = keyof typeof attributes
export const roleNames = Object.keys(attributes) as RoleName[]

/** Passwords by role; a role without one keeps the password it has, if any. */
export type RolePasswords = Partial<Record<RoleName, string>>

/**
 * Creates the roles that are missing and sets the given passwords. The connection's role must be
 * allowed to (a superuser, or CREATEROLE with REPLICATION); otherwise the roles must exist already,
 * or this throws naming those that do not.
 */
export async function prepareRoles(client: pg.Client, passwords: RolePasswords): Promise<void> {
  if (!(await mayCreateRoles(client))) return requireRoles(client)
  for (const role of roleNames) {
    // Roles belong to the whole server: another database's migration may create them just now.
    await client.query(`do $$ begin
      if not exists (select from pg_roles where rolname = '${role}') then
        create role ${role} ${attributes[role]};
      end if;
    exception when duplicate_object or unique_violation then null; end $$`)
    const password = passwords[role]
    if (password !== undefined) {
      await client.query(`alter role ${role} password ${client.escapeLiteral(password)}`)
    }
  }
  await client.query('grant sluice_maintenance to sluice_migrator')
  await client.query('grant pg_read_all_stats to sluice_relay')
  const { rows } = await client.query<{ database: string }>('select current_database() as database')
  const database = client.escapeIdentifier(rows[0]?.database ?? '')
  await client.query(`grant connect, create on database ${database} to sluice_migrator`)
  await client.query(`revoke temporary on database ${database} from public`)
}

async function mayCreateRoles(client: pg.Client): Promise<boolean> {
  const { rows } = await client.query<{ may: boolean }>(
    'select rolsuper or rolcreaterole as may from pg_roles where rolname = current_user',
  )
  return rows[0]?.may === true
}

async function requireRoles(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ rolname: string }>(
    'select rolname from pg_roles where rolname = any($1)',
    [roleNames],
  )
  const missing = roleNames.filter((role) => !rows.some((row) => row.rolname === role))
  if (missing.length === 0) return
  throw new Error(
    `roles missing: ${missing.join(', ')}. Create them, or migrate once as a role that may create roles`,
  )
}
