// One start per data folder. The lock is a file that appears whole (written beside, then linked into
// place, which fails when the name is there), names its holder by pid and start time, and is taken
// over only from a holder that no longer lives.
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { StackError } from '../errors.ts'
import { isSameProcess, processIdentity } from './process-identity.ts'

const holderSchema = z.object({ pid: z.int().positive(), identity: z.string() })
export type LockHolder = z.output<typeof holderSchema>

/**
 * Locks the folder for this process. Returns whether a dead holder's lock was taken over, and how
 * to let go. Throws `data_folder_locked`, naming the pid, while the holder lives.
 */
export function lockDataFolder(folder: string): { takenOver: boolean; release(): void } {
  const path = lockPath(folder)
  const mine = `${path}.${process.pid}`
  const holder = { pid: process.pid, identity: processIdentity(process.pid) }
  writeFileSync(mine, JSON.stringify(holder), { mode: 0o644 })
  try {
    let takenOver = false
    // Each turn ends in a lock of ours, a refusal, or a dead lock removed: two turns are the rule.
    for (let turn = 0; turn < 10; turn++) {
      if (linkIfAbsent(mine, path))
        return { takenOver, release: () => rmSync(path, { force: true }) }
      refuseLiving(folder, lockHolder(folder))
      takenOver = removeDead(folder)
    }
    throw new StackError('data_folder_locked', `${folder} is being locked by others all the time`)
  } finally {
    rmSync(mine, { force: true })
  }
}

/** Who holds the folder's lock, dead or alive; undefined when nobody, or nobody can tell. */
export function lockHolder(folder: string): LockHolder | undefined {
  return readHolder(lockPath(folder))
}

function readHolder(path: string): LockHolder | undefined {
  try {
    return holderSchema.parse(JSON.parse(readFileSync(path, 'utf8')))
  } catch {
    return undefined
  }
}

function refuseLiving(folder: string, holder: LockHolder | undefined): void {
  if (holder === undefined || !isSameProcess(holder)) return
  throw new StackError(
    'data_folder_locked',
    `${folder} is in use by pid ${holder.pid}: stop that one, or choose another SLUICE_DATA_DIR`,
  )
}

/** Two starters may find the same dead lock: what was moved away is looked at before it is dropped. */
function removeDead(folder: string): boolean {
  const path = lockPath(folder)
  const aside = `${path}.${process.pid}.dead`
  try {
    renameSync(path, aside)
  } catch {
    return false
  }
  const moved = readHolder(aside)
  if (moved !== undefined && isSameProcess(moved)) linkIfAbsent(aside, path)
  rmSync(aside, { force: true })
  refuseLiving(folder, moved)
  return true
}

function linkIfAbsent(from: string, to: string): boolean {
  try {
    linkSync(from, to)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  }
}

function lockPath(folder: string): string {
  return join(folder, 'lock')
}
