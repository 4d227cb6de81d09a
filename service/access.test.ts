import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { hashOfAccessKey, newAccessKey, openAccess, type Access } from './access.ts'

let folder: string
let file: string
let access: Access | undefined
const log = pino({ level: 'silent' })

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'sluice-test-'))
  file = join(folder, 'keys.json')
})

afterEach(() => {
  access?.close()
  rmSync(folder, { recursive: true })
})

const write = (...keys: string[]) =>
  writeFileSync(
    file,
    JSON.stringify({
      keys: keys.map((key) => ({
        sha256: hashOfAccessKey(key),
        caller: `of-${key}`,
        role: 'teller',
      })),
    }),
  )

describe('access keys', () => {
  it('tell who is calling', () => {
    write('one', 'two')
    access = openAccess(file, log)
    expect(access.identify('Bearer two')).toEqual({ name: 'of-two', role: 'teller' })
    for (const wrong of [
      undefined,
      '',
      'two',
      'Bearer',
      'Bearer three',
      'Basic two',
      'Bearer two x',
    ]) {
      expect(() => access?.identify(wrong)).toThrow(
        expect.objectContaining({ code: 'unauthenticated' }),
      )
    }
  })

  it('are read again when their file changes; a bad file leaves the old ones in force', async () => {
    write('one')
    access = openAccess(file, log)
    const errors = vi.spyOn(log, 'error')
    writeFileSync(file, '{ "keys": "none" }')
    await vi.waitFor(() => expect(errors).toHaveBeenCalled(), { timeout: 10_000 })
    expect(access.identify('Bearer one').name).toBe('of-one')
    write('two')
    await vi.waitFor(() => access?.identify('Bearer two'), { timeout: 10_000 })
    expect(() => access?.identify('Bearer one')).toThrow('access key')
  })

  it('must be readable when the process starts', () => {
    expect(() => openAccess(file, log)).toThrow('ENOENT')
  })

  it('are long, random and fit in a header', () => {
    const keys = Array.from({ length: 100 }, newAccessKey)
    expect(new Set(keys).size).toBe(100)
    for (const key of keys) expect(key).toMatch(/^sluice_[\w-]{32}$/)
  })
})
