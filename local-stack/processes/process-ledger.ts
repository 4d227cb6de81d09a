// Which processes belong to a data folder, written down so that a start after a kill -9 finds those
// that were left behind. Three rules keep it honest: a process is recorded in the same turn in which
// it was spawned; each child carries the folder in its environment too, which closes the moment
// between the two (on Linux, where it can be read); and a process is signalled only while pid and
// start time, or that mark, say that it is ours.
import { readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { z } from 'zod'
import { StackError } from '../errors.ts'
import { waitUntil } from '../wait-until.ts'
import { isSameProcess, processIdentity } from './process-identity.ts'

/** Later tiers are stopped later: services and connectors drain while Kafka and PostgreSQL still run. */
const tiers = ['tool', 'service', 'connect', 'kafka', 'postgres'] as const
export type Tier = (typeof tiers)[number]

const recordSchema = z.object({
  name: z.string(),
  tier: z.enum(tiers),
  pid: z.int().positive(),
  identity: z.string(),
})
export type ProcessRecord = z.output<typeof recordSchema>

/** Two kinds of Java process belong to a folder; this word in its command line tells one of them. */
export const connectMainClass = 'org.apache.kafka.connect.cli.ConnectDistributed'

const ownerVariable = 'SLUICE_DATA_FOLDER_OF_PROCESS'

export type ProcessLedger = {
  /** The environment by which children are known as this folder's. */
  mark: Record<string, string>
  add(process: { name: string; tier: Tier; pid: number }): void
  remove(pid: number): void
  /** Ends whatever runs, without waiting; PostgreSQL by its immediate shutdown. */
  killAll(): void
}

export function openProcessLedger(folder: string): ProcessLedger {
  const records = new Map<number, ProcessRecord>()
  const path = ledgerPath(folder)
  const save = () => {
    writeFileSync(`${path}.new`, JSON.stringify([...records.values()], null, 2), { mode: 0o600 })
    renameSync(`${path}.new`, path)
  }
  return {
    mark: { [ownerVariable]: folder },
    add({ name, tier, pid }) {
      const identity = processIdentity(pid)
      // Gone already: there is nothing to find later.
      if (identity === undefined) return
      records.set(pid, { name, tier, pid, identity })
      save()
    },
    remove(pid) {
      if (records.delete(pid)) save()
    },
    killAll() {
      for (const record of records.values()) {
        signalProcess(record, record.tier === 'postgres' ? 'SIGQUIT' : 'SIGKILL')
      }
    },
  }
}

/**
 * Stops what a start that was killed left behind, tier by tier, gently and then by force. Returns
 * their names. Throws `orphan_not_stopped` for one that outlives even that.
 */
export async function stopOrphans(folder: string, gentleMs = 10_000): Promise<string[]> {
  const orphans = findOrphans(folder)
  for (const tier of tiers) {
    await Promise.all(
      orphans
        .filter((orphan) => orphan.tier === tier)
        .map((orphan) => stopOrphan(orphan, gentleMs)),
    )
  }
  return orphans.map((orphan) => orphan.name)
}

async function stopOrphan(orphan: ProcessRecord, gentleMs: number): Promise<void> {
  const steps: [NodeJS.Signals, number][] =
    orphan.tier === 'postgres'
      ? [
          ['SIGINT', gentleMs],
          ['SIGQUIT', 5_000],
          ['SIGKILL', 5_000],
        ]
      : [
          ['SIGTERM', gentleMs],
          ['SIGKILL', 5_000],
        ]
  for (const [signal, deadlineMs] of steps) {
    signalProcess(orphan, signal)
    const what = `the end of ${orphan.name}`
    const ended = waitUntil(() => !isSameProcess(orphan), { what, deadlineMs, intervalMs: 50 })
    if (await ended.catch(() => false)) return
  }
  throw new StackError(
    'orphan_not_stopped',
    `${orphan.name} (pid ${orphan.pid}) of an earlier start does not end, not even by kill -9`,
  )
}

function findOrphans(folder: string): ProcessRecord[] {
  const recorded = readRecords(folder).filter(isSameProcess)
  const known = new Set(recorded.map((record) => record.pid))
  return [...recorded, ...marked(folder).filter((record) => !known.has(record.pid))]
}

function readRecords(folder: string): ProcessRecord[] {
  try {
    return z.array(recordSchema).parse(JSON.parse(readFileSync(ledgerPath(folder), 'utf8')))
  } catch {
    // No ledger, or one cut short by a power failure: after that no process of it runs.
    return []
  }
}

/** Processes that carry the folder's mark, without those that such a process started itself. */
function marked(folder: string): ProcessRecord[] {
  if (process.platform !== 'linux') return []
  const found = new Map<number, { record: ProcessRecord; parent: number }>()
  for (const entry of readdirSync('/proc')) {
    const pid = Number(entry)
    if (!Number.isInteger(pid) || pid === process.pid) continue
    try {
      const environment = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0')
      if (!environment.includes(`${ownerVariable}=${folder}`)) continue
      const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
      const command = basename(words[0] ?? '')
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
      const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])
      const identity = processIdentity(pid)
      if (identity === undefined) continue
      const record = { name: command, tier: tierOf(words), pid, identity }
      found.set(pid, { record, parent })
    } catch {
      // Another user's process, or one that ended while we looked.
    }
  }
  return [...found.values()].filter(({ parent }) => !found.has(parent)).map(({ record }) => record)
}

function tierOf(words: readonly string[]): Tier {
  const command = basename(words[0] ?? '')
  if (command === 'postgres') return 'postgres'
  if (command !== 'java') return 'service'
  return words.includes(connectMainClass) ? 'connect' : 'kafka'
}

function signalProcess(record: ProcessRecord, signal: NodeJS.Signals): void {
  if (!isSameProcess(record)) return
  try {
    process.kill(record.pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

function ledgerPath(folder: string): string {
  return join(folder, 'processes.json')
}
