import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { expect, test } from 'vitest'
import { isSameProcess, linuxIdentity, processIdentity, psIdentity } from './process-identity.ts'

const stat = (command: string, state: string, start: string) =>
  `42 (${command}) ${state} 1 42 42 0 -1 4194304 1 0 0 0 1 1 0 0 20 0 1 0 ${start} 1000 100 0`

test('a process is known by its boot and start time', () => {
  expect(linuxIdentity(stat('node', 'S', '777'), 'boot')).toBe('boot:777')
})

test('a command with spaces and parentheses does not shift the fields', () => {
  expect(linuxIdentity(stat('a) R 1 (b', 'S', '778'), 'boot')).toBe('boot:778')
})

test('a zombie is nobody', () => {
  expect(linuxIdentity(stat('node', 'Z', '777'), 'boot')).toBeUndefined()
  expect(psIdentity('Z+   Sat Nov 21 08:00:00 2026')).toBeUndefined()
})

test('ps tells the start time behind the state', () => {
  expect(psIdentity('Ss   Sat Nov 21 08:00:00 2026  \n')).toBe('Sat Nov 21 08:00:00 2026')
  expect(psIdentity('')).toBeUndefined()
})

test('a pid with another start time is not the process that was recorded', () => {
  const identity = processIdentity(process.pid) ?? ''
  expect(isSameProcess({ pid: process.pid, identity })).toBe(true)
  expect(isSameProcess({ pid: process.pid, identity: `${identity}0` })).toBe(false)
})

test('a process that has ended has no identity', async () => {
  const child = spawn(process.execPath, ['-e', ''])
  await once(child, 'exit')
  expect(processIdentity(child.pid ?? 0)).toBeUndefined()
})
