import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  rmSync,
  statSync,
  existsSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { StackError } from './errors.ts'
import { runsInContainer } from './kafka/kafka-runtime.ts'
import { removePostgresHome } from './postgres/postgres-home.ts'
import { lockDataFolder, lockHolder } from './processes/data-lock.ts'
import { isSameProcess } from './processes/process-identity.ts'
import { openProcessLedger, stopOrphans, type ProcessLedger } from './processes/process-ledger.ts'

const ephemeralPrefix = 'sluice-ephemeral-'

/** A locked folder in which everything lives that a stack keeps: data, secrets, logs, its ledger. */
export type DataFolder = {
  path: string
  ephemeral: boolean
  ledger: ProcessLedger
  /** What was found of an earlier start that was killed: names of the processes now stopped. */
  orphans: string[]
  file(...names: string[]): string
  logFile(name: string): string
  /** Lets go of the lock, and removes an ephemeral folder. Everything in it has to be stopped. */
  [Symbol.asyncDispose](): Promise<void>
}

/**
 * Makes the folder where missing, locks it, and stops what a killed start left running in it.
 * Without a path: a temporary folder, removed at the end; those that killed starts left behind are
 * removed now. Throws `data_folder_locked`, `data_folder_unusable` or `orphan_not_stopped`.
 */
export async function openDataFolder(path?: string): Promise<DataFolder> {
  if (path === undefined) await sweepEphemeralFolders()
  const folder = path === undefined ? makeEphemeralFolder() : makeFolder(resolve(path))
  const lock = lockDataFolder(folder)
  try {
    const orphans = await stopLeftovers(folder)
    return {
      path: folder,
      ephemeral: path === undefined,
      ledger: openProcessLedger(folder),
      orphans,
      file: (...names) => join(folder, ...names),
      logFile: (name) => join(folder, 'logs', `${name}.log`),
      async [Symbol.asyncDispose]() {
        lock.release()
        if (path === undefined) removeFolder(folder)
      },
    }
  } catch (error) {
    lock.release()
    throw error
  }
}

async function stopLeftovers(folder: string): Promise<string[]> {
  const processes = await stopOrphans(folder)
  if (!runsInContainer(folder)) return processes
  const { dockerAnswers, removeOrphanContainers } = await import('./containers.ts')
  // Without Docker no container of ours runs.
  const removed = (await dockerAnswers()) ? await removeOrphanContainers(folder) : 0
  return removed === 0 ? processes : [...processes, 'kafka']
}

/**
 * Makes a folder and those above it that are missing; false where it was there. One by one, because
 * Node's own recursion never ends where a parent takes no folders and says that it is not there.
 */
function makeFolders(path: string): boolean {
  if (existsSync(path)) return false
  makeFolders(dirname(path))
  mkdirSync(path)
  return true
}

function makeFolder(path: string): string {
  try {
    // PostgreSQL may run as another user than we do, and has to pass through, not to read.
    if (makeFolders(path)) chmodSync(path, 0o711)
    return realpathSync(path)
  } catch (cause) {
    throw new StackError(
      'data_folder_unusable',
      `the data folder ${path} cannot be made: ${(cause as Error).message}`,
      { cause },
    )
  }
}

function makeEphemeralFolder(): string {
  const path = realpathSync(mkdtempSync(join(tmpdir(), ephemeralPrefix)))
  chmodSync(path, 0o711)
  return path
}

/** Only folders of our own user whose lock names a holder that is dead. */
async function sweepEphemeralFolders(): Promise<void> {
  for (const name of readdirSync(tmpdir())) {
    const folder = join(realpathSync(tmpdir()), name)
    if (!name.startsWith(ephemeralPrefix)) continue
    if (statSync(folder, { throwIfNoEntry: false })?.uid !== process.getuid?.()) continue
    const holder = lockHolder(folder)
    if (holder === undefined || isSameProcess(holder)) continue
    await stopLeftovers(folder)
    removeFolder(folder)
  }
}

function removeFolder(folder: string): void {
  removePostgresHome(folder)
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
}
