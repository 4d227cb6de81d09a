import {
  closeSync,
  copyFileSync,
  fstatSync,
  mkdirSync,
  openSync,
  readSync,
  statSync,
  truncateSync,
} from 'node:fs'
import { dirname } from 'node:path'

/**
 * Opens a log for a child to append to. The child holds the file itself, not a pipe to us, so that
 * it can still say what it does after we were killed. `size` is where its lines will begin.
 */
export function openLogFile(path: string): { descriptor: number; size: number } {
  mkdirSync(dirname(path), { recursive: true })
  const descriptor = openSync(path, 'a', 0o640)
  return { descriptor, size: fstatSync(descriptor).size }
}

/** The last lines of a log, at most `lines`, none of before byte `from`; '' when there is no log. */
export function logTail(path: string, { from = 0, lines = 20 } = {}): string {
  let descriptor: number
  try {
    descriptor = openSync(path, 'r')
  } catch {
    return ''
  }
  try {
    const { size } = fstatSync(descriptor)
    // After a truncation the file is shorter than where the child began: then all of it is its own.
    const start = Math.max(size - 16_384, from > size ? 0 : from)
    const bytes = Buffer.alloc(Math.max(0, size - start))
    readSync(descriptor, bytes, 0, bytes.length, start)
    return bytes.toString('utf8').trimEnd().split('\n').slice(-lines).join('\n')
  } finally {
    closeSync(descriptor)
  }
}

/**
 * Keeps a log below about twice `maxBytes`: what there is becomes `<path>.1`, and the file is
 * emptied in place, since its writer has it open for appending. A line written between the two is
 * lost, which a development log can bear.
 */
export function boundLogFile(path: string, maxBytes: number): void {
  const size = statSync(path, { throwIfNoEntry: false })?.size ?? 0
  if (size <= maxBytes) return
  copyFileSync(path, `${path}.1`)
  truncateSync(path)
}
