import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { accessKeysFile, hashOfAccessKey, newAccessKey } from 'service/access'
import { z } from 'zod'
import type { DataFolder } from './data-folder.ts'
import { StackError } from './errors.ts'

const password = z.string().min(16)

const secretsSchema = z.object({
  postgres: password,
  roles: z.object({
    sluice_migrator: password,
    sluice_maintenance: password,
    sluice_command: password,
    sluice_relay: password,
    sluice_cdc: password,
    sluice_projector: password,
    sluice_query: password,
  }),
  cursorSecret: z.string().min(32),
  developmentKey: z.string().min(16),
})

/** Everything secret of one data folder; made once, since PostgreSQL's data know the passwords. */
export type Secrets = z.output<typeof secretsSchema>
export type RoleName = keyof Secrets['roles']

export const roleNames = Object.keys(secretsSchema.shape.roles.shape) as RoleName[]

/** The folder's secrets, made on the first start, readable by the user alone. */
export function openSecrets(dataFolder: DataFolder): Secrets {
  const path = dataFolder.file('secrets.json')
  if (!existsSync(path)) {
    const secrets = newSecrets()
    writePrivately(path, secrets)
    return secrets
  }
  try {
    return secretsSchema.parse(JSON.parse(readFileSync(path, 'utf8')))
  } catch (cause) {
    // Making new ones would shut us out of the data that know the old ones.
    throw new StackError('data_folder_unusable', `${path} cannot be read: restore it`, { cause })
  }
}

/**
 * The access keys file of the services: hashes only, the development key among them. Keys that the
 * user has added stay.
 */
export function ensureAccessKeys(dataFolder: DataFolder, developmentKey: string): string {
  const path = dataFolder.file('access-keys.json')
  const sha256 = hashOfAccessKey(developmentKey)
  const { keys } = existsSync(path)
    ? accessKeysFile.parse(JSON.parse(readFileSync(path, 'utf8')))
    : { keys: [] }
  if (!keys.some((key) => key.sha256 === sha256)) {
    writePrivately(path, { keys: [...keys, { sha256, caller: 'development', role: 'teller' }] })
  }
  return path
}

function newSecrets(): Secrets {
  const random = () => randomBytes(24).toString('base64url')
  return {
    postgres: random(),
    roles: Object.fromEntries(roleNames.map((role) => [role, random()])) as Secrets['roles'],
    cursorSecret: randomBytes(32).toString('base64url'),
    developmentKey: newAccessKey(),
  }
}

function writePrivately(path: string, content: unknown): void {
  writeFileSync(`${path}.new`, `${JSON.stringify(content, null, 2)}\n`, {
    mode: 0o600,
    flush: true,
  })
  renameSync(`${path}.new`, path)
}
