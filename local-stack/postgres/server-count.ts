import { StackError } from '../errors.ts'

/** Whether tests and drills have their read databases on a PostgreSQL of their own. */
export function twoPostgresServers(): boolean {
  const servers = process.env.TEST_POSTGRES_SERVERS ?? '1'
  if (servers === '1' || servers === '2') return servers === '2'
  throw new StackError('config_invalid', `TEST_POSTGRES_SERVERS is ${servers}: it must be 1 or 2`)
}
