import { readFileSync } from 'node:fs'

// Linux only: elsewhere both are unknown, and the figures that need them are left out.

const ticksPerSecond = 100

/** The most memory a process ever had resident, in MB: the kernel's own high-water mark. */
export function peakMemoryMb(pid: number): number | undefined {
  const line = readProc(pid, 'status')?.match(/^VmHWM:\s+(\d+) kB$/m)
  return line?.[1] === undefined ? undefined : Number(line[1]) / 1_024
}

/** CPU that a process has used so far, in seconds, all its threads together. */
export function cpuSeconds(pid: number): number | undefined {
  const fields = statFields(pid)
  return fields && (Number(fields[11]) + Number(fields[12])) / ticksPerSecond
}

/** CPU of a process and of all the children it has or had, in seconds. */
export function cpuSecondsWithChildren(pid: number): number {
  const children = readProc(pid, `task/${pid}/children`)?.trim().split(' ') ?? []
  const running = children.map((child) => cpuSeconds(Number(child)) ?? 0)
  const own = statFields(pid) ?? []
  const ticks = [11, 12, 13, 14].reduce((sum, at) => sum + Number(own[at]), 0)
  return ticks / ticksPerSecond + running.reduce((sum, each) => sum + each, 0)
}

function statFields(pid: number): string[] | undefined {
  const stat = readProc(pid, 'stat')
  // The command's name, in parentheses, may hold spaces: count from behind it.
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ')
}

function readProc(pid: number, file: string): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8')
  } catch {
    return undefined
  }
}
