import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { lockDataFolder, lockHolder } from './data-lock.ts'
import { processIdentity } from './process-identity.ts'

let folder: string
beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'sluice-lock-'))))
afterEach(() => rmSync(folder, { recursive: true }))

const holdBy = (pid: number, identity: string) =>
  writeFileSync(join(folder, 'lock'), JSON.stringify({ pid, identity }))

test('a free folder is locked by this process, and free again after', () => {
  const lock = lockDataFolder(folder)
  expect(lock.takenOver).toBe(false)
  expect(lockHolder(folder)).toMatchObject({ pid: process.pid })
  lock.release()
  expect(readdirSync(folder)).toEqual([])
})

test('a living holder is named and keeps its lock', async () => {
  const other = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'])
  await once(other, 'spawn')
  const pid = other.pid ?? 0
  holdBy(pid, processIdentity(pid) ?? '')
  expect(() => lockDataFolder(folder)).toThrow(`in use by pid ${pid}`)
  expect(lockHolder(folder)).toMatchObject({ pid })
  other.kill('SIGKILL')
  await once(other, 'exit')
  const lock = lockDataFolder(folder)
  expect(lock.takenOver).toBe(true)
  lock.release()
})

test('a lock whose pid was handed out again is taken over', () => {
  holdBy(process.ppid, 'of another time')
  const lock = lockDataFolder(folder)
  expect(lock.takenOver).toBe(true)
  expect(lockHolder(folder)).toMatchObject({ pid: process.pid })
  expect(existsSync(join(folder, `lock.${process.pid}.dead`))).toBe(false)
  lock.release()
})

test('a lock that was cut short by a power failure is taken over', () => {
  writeFileSync(join(folder, 'lock'), '')
  const lock = lockDataFolder(folder)
  expect(lock.takenOver).toBe(true)
  lock.release()
})
