import { hash, randomBytes } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { z } from 'zod'
import type { Log } from './log.ts'
import { httpProblem } from './problem.ts'

/** Who is calling: recorded beside every command, and the owner of its idempotency keys. */
export type Caller = { name: string; role: z.output<typeof role> }

const role = z.enum(['customer', 'teller', 'operator', 'auditor', 'service'])

/** The access keys file: hashes only, so that reading it lets nobody in. */
export const accessKeysFile = z.strictObject({
  keys: z.array(
    z.strictObject({
      sha256: z.string().regex(/^[0-9a-f]{64}$/),
      caller: z.string().regex(/^[A-Za-z0-9._-]{1,64}$/),
      role,
    }),
  ),
})

export type Access = {
  /** Throws 401 `unauthenticated` unless the Authorization header holds a known key. */
  identify(authorization: string | undefined): Caller
  close(): void
}

/** A new random key. Only its hash is ever stored. */
export function newAccessKey(): string {
  return `sluice_${randomBytes(24).toString('base64url')}`
}

export function hashOfAccessKey(key: string): string {
  return hash('sha256', key)
}

const anonymous: Caller = { name: 'anonymous', role: 'operator' }

/** AUTH=off: everybody is the same operator. The environment allows it on loopback only. */
export const openToAll: Access = { identify: () => anonymous, close: () => {} }

/**
 * Reads the keys file and again whenever it changes. At the start a bad file throws; later the last
 * good one stays in force and the fault is logged, so that a slip of the pen locks nobody out.
 */
export function openAccess(path: string, log: Log): Access {
  // The stamp is taken before the file is read: a change in between is then seen as one, and the
  // file read once more. A watcher of Node's own would take its first stamp only later.
  let stamp = stampOf(path)
  let callers = readCallers(path)
  const reloadIfChanged = () => {
    try {
      const present = stampOf(path)
      if (present === stamp) return
      stamp = present
      callers = readCallers(path)
      log.info({ event: 'access_reloaded', keys: callers.size }, 'access keys read again')
    } catch (error) {
      log.error(
        { event: 'access_reload_failed', err: error },
        'access keys not read: old ones stay',
      )
    }
  }
  const timer = setInterval(reloadIfChanged, 1_000).unref()
  return {
    identify(authorization) {
      const key = /^Bearer ([\x21-\x7e]{1,256})$/i.exec(authorization ?? '')?.[1]
      const caller = key === undefined ? undefined : callers.get(hashOfAccessKey(key))
      if (caller !== undefined) return caller
      throw httpProblem('unauthenticated', {
        detail: 'send an access key as "Authorization: Bearer <key>"',
        headers: { 'WWW-Authenticate': 'Bearer' },
      })
    },
    close: () => clearInterval(timer),
  }
}

/** Throws 403 `not_allowed`. */
export function requireOperator({ caller }: { caller: Caller }): void {
  if (caller.role === 'operator') return
  throw httpProblem('not_allowed', {
    detail: `this is for operators, and you are a ${caller.role}`,
  })
}

/** Tells one state of a file from another; a file that is gone is a state too. */
function stampOf(path: string): string {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false })
  return stat === undefined ? 'gone' : `${stat.ino} ${stat.size} ${stat.mtimeNs}`
}

function readCallers(path: string): Map<string, Caller> {
  const { keys } = accessKeysFile.parse(JSON.parse(readFileSync(path, 'utf8')))
  return new Map(keys.map((key) => [key.sha256, { name: key.caller, role: key.role }]))
}
