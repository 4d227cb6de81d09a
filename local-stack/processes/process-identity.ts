// A pid alone names nobody for long: the system hands it out again. A pid together with the time
// at which its process started does not repeat, so nothing here is ever signalled by pid alone.
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

/**
 * What tells this process from a later one with the same pid; undefined when there is none (a
 * zombie counts as none: it holds no port and no file).
 */
export function processIdentity(pid: number): string | undefined {
  try {
    if (process.platform === 'linux')
      return linuxIdentity(readFileSync(`/proc/${pid}/stat`, 'utf8'))
    const options = { encoding: 'utf8', env: { ...process.env, LC_ALL: 'C', TZ: 'UTC' } } as const
    return psIdentity(execFileSync('ps', ['-o', 'stat=,lstart=', '-p', String(pid)], options))
  } catch {
    return undefined
  }
}

/** Is the process that was once recorded still the one with this pid? */
export function isSameProcess(recorded: { pid: number; identity: string }): boolean {
  return processIdentity(recorded.pid) === recorded.identity
}

/** Start time in ticks since boot, and which boot; from `/proc/<pid>/stat`. */
export function linuxIdentity(stat: string, boot: string = bootId()): string | undefined {
  // The second field is the command in parentheses and may itself hold spaces and parentheses.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const [state, startTicks] = [fields[0], fields[19]]
  if (startTicks === undefined || state === 'Z' || state === 'X') return undefined
  return `${boot}:${startTicks}`
}

/** Start time to the second; from one line of `ps -o stat=,lstart=`. */
export function psIdentity(line: string): string | undefined {
  const [, state, started] = /^(\S+)\s+(\S.*\S)\s*$/.exec(line.trim()) ?? []
  return state === undefined || state.startsWith('Z') ? undefined : started
}

function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
}
