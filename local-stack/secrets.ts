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
  /** The query API's, for the command API's feed. Folders of before it was needed get theirs now. */
  queryApiKey: z.string().min(16).optional(),
})

/** Everything secret of one data folder; made once, since PostgreSQL's data know the passwords. */
export type Secrets = z.output<typeof secretsSchema> & { queryApiKey: string }
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
    const kept = secretsSchema.parse(JSON.parse(readFileSync(path, 'utf8')))
    const secrets = { ...kept, queryApiKey: kept.queryApiKey ?? newAccessKey() }
    if (kept.queryApiKey === undefined) writePrivately(path, secrets)
    return secrets
  } catch (cause) {
    // Making new ones would shut us out of the data that know the old ones.
    throw new StackError('data_folder_unusable', `${path} cannot be read: restore it`, { cause })
  }
}

/**
 * The access keys file of the services: hashes only, those of the development key and of the query
 * API's among them. Keys that the user has added stay.
 */
export function ensureAccessKeys(
  dataFolder: DataFolder,
  developmentKey: string,
  queryApiKey?: string,
): string {
  const path = dataFolder.file('access-keys.json')
  const { keys } = existsSync(path)
    ? accessKeysFile.parse(JSON.parse(readFileSync(path, 'utf8')))
    : { keys: [] }
  const ours: typeof keys = [
    { sha256: hashOfAccessKey(developmentKey), caller: 'development', role: 'teller' },
  ]
  if (queryApiKey !== undefined) {
    ours.push({ sha256: hashOfAccessKey(queryApiKey), caller: 'query-api', role: 'service' })
  }
  const missing = ours.filter((own) => !keys.some((key) => key.sha256 === own.sha256))
  if (missing.length > 0) writePrivately(path, { keys: [...keys, ...missing] })
  return path
}

function newSecrets(): Secrets {
  const random = () => randomBytes(24).toString('base64url')
  return {
    postgres: random(),
    roles: Object.fromEntries(roleNames.map((role) => [role, random()])) as Secrets['roles'],
    cursorSecret: randomBytes(32).toString('base64url'),
    developmentKey: newAccessKey(),
    queryApiKey: newAccessKey(),
  }
}

function writePrivately(path: string, content: unknown): void {
  writeFileSync(`${path}.new`, `${JSON.stringify(content, null, 2)}\n`, {
    mode: 0o600,
    flush: true,
  })
  renameSync(`${path}.new`, path)
}
