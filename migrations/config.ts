import { brokerList, postgresUrl, readEnvironment } from 'service/environment'
import { z } from 'zod'
import { type RoleName, roleNames, type RolePasswords } from './roles.ts'

const passwordVariable = (role: RoleName) => `${role.toUpperCase()}_PASSWORD`

export const variables = z.object({
  MIGRATOR_WRITE_DATABASE_URL: postgresUrl,
  MIGRATOR_READ_DATABASE_URL: postgresUrl,
  KAFKA_BROKERS: brokerList,
  ...Object.fromEntries(
    roleNames.map((role) => [passwordVariable(role), z.string().min(8).optional()]),
  ),
})

/** Settings of one `npm run migrate`; passwords are `SLUICE_COMMAND_PASSWORD` and so on. */
export function readConfig() {
  const settings = readEnvironment(variables) as z.output<typeof variables> & NodeJS.Dict<string>
  const passwords: RolePasswords = {}
  for (const role of roleNames) {
    const password = settings[passwordVariable(role)]
    if (password !== undefined) passwords[role] = password
  }
  return {
    writeUrl: settings.MIGRATOR_WRITE_DATABASE_URL,
    readUrl: settings.MIGRATOR_READ_DATABASE_URL,
    brokers: settings.KAFKA_BROKERS,
    passwords,
  }
}
