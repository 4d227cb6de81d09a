import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'

/** Who listens on a port of this machine, for a sentence; says so when the system does not tell. */
export function portHolder(port: number): string {
  try {
    const holder = process.platform === 'linux' ? linuxHolder(port) : lsofHolder(runLsof(port))
    if (holder !== undefined) return `pid ${holder.pid} (${holder.command})`
    if (process.platform === 'linux' && connectionsFrom(port) > 0) {
      return 'a connection, open or ended within the last minute'
    }
  } catch {
    // Neither /proc nor lsof: the port is taken all the same.
  }
  return 'another process'
}

type Holder = { pid: number; command: string }

function linuxHolder(port: number): Holder | undefined {
  const inodes = tables().flatMap((table) => listeningInodes(table, port))
  const sockets = new Set(inodes.map(socketName))
  if (sockets.size === 0) return undefined
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    if (!openFiles(pid).some((file) => sockets.has(file))) continue
    const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').join(' ').trim()
    return { pid: Number(pid), command: shorten(command) }
  }
  return undefined
}

/** Inodes of the sockets in `/proc/net/tcp` that listen (state 0A) on the port. */
export function listeningInodes(table: string, port: number): string[] {
  return rowsOf(table, port)
    .filter((fields) => fields[3] === '0A')
    .map((fields) => fields[9] ?? '')
}

/** How many connections use the port as their own end, those in TIME_WAIT among them. */
function connectionsFrom(port: number): number {
  return tables().flatMap((table) => rowsOf(table, port)).length
}

function rowsOf(table: string, localPort: number): string[][] {
  const suffix = `:${localPort.toString(16).toUpperCase().padStart(4, '0')}`
  return table
    .split('\n')
    .slice(1)
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields[1]?.endsWith(suffix) === true)
}

function tables(): string[] {
  return ['/proc/net/tcp', '/proc/net/tcp6'].map(readIfThere)
}

/** The first process in what `lsof -Fpc` prints: lines of `p<pid>` and `c<command>`. */
export function lsofHolder(printed: string): Holder | undefined {
  const pid = /^p(\d+)$/m.exec(printed)?.[1]
  const command = /^c(.+)$/m.exec(printed)?.[1]
  return pid === undefined ? undefined : { pid: Number(pid), command: command ?? 'unknown' }
}

function runLsof(port: number): string {
  const args = ['-nP', `-iTCP:${port}`, '-sTCP:LISTEN', '-Fpc']
  return execFileSync('lsof', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
}

/** What a process has open; nothing where we may not look, or what it closed meanwhile. */
function openFiles(pid: string): string[] {
  const orNothing = <T>(look: () => T[]): T[] => {
    try {
      return look()
    } catch {
      return []
    }
  }
  const folder = `/proc/${pid}/fd`
  return orNothing(() => readdirSync(folder)).flatMap((name) =>
    orNothing(() => [readlinkSync(`${folder}/${name}`)]),
  )
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

function socketName(inode: string): string {
  return `socket:[${inode}]`
}

function shorten(command: string): string {
  return command.length > 80 ? `${command.slice(0, 77)}...` : command
}
