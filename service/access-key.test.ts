import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openAccess } from './access.ts'
import { addAccessKey, runAccessKeyCommand, setAccessKey } from './access-key.ts'
import { openLog } from './log.ts'

let folder: string
let path: string
const teller = { caller: 'ada', role: 'teller' }

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'access-key-'))
  path = join(folder, 'access-keys.json')
})

afterEach(() => rmSync(folder, { recursive: true }))

function callerOf(key: string) {
  const access = openAccess(path, openLog('test', 'fatal'))
  try {
    return access.identify(`Bearer ${key}`)
  } finally {
    access.close()
  }
}

test('a key that was added identifies its caller, and the file does not hold it', () => {
  const key = addAccessKey(path, teller)

  expect(callerOf(key)).toEqual({ name: 'ada', role: 'teller' })
  expect(readFileSync(path, 'utf8')).not.toContain(key)
  expect(readFileSync(path, 'utf8')).not.toContain(key.slice('sluice_'.length))
})

test('a new file can be read by its owner alone, and nothing else is left in the folder', () => {
  addAccessKey(path, teller)

  expect(statSync(path).mode & 0o777).toBe(0o600)
  expect(readdirSync(folder)).toEqual(['access-keys.json'])
})

test('a second key leaves the first in force, and the mode of the file as it was', () => {
  const first = addAccessKey(path, teller)
  chmodSync(path, 0o640)
  const second = addAccessKey(path, { caller: 'grace', role: 'auditor' })

  expect(callerOf(first).name).toBe('ada')
  expect(callerOf(second)).toEqual({ name: 'grace', role: 'auditor' })
  expect(statSync(path).mode & 0o777).toBe(0o640)
})

test.each([
  ['a caller with a space', { caller: 'a da', role: 'teller' }],
  ['a role that there is not', { caller: 'ada', role: 'root' }],
])('%s is refused, and no file is made', (_name, who) => {
  expect(() => addAccessKey(path, who)).toThrow(
    expect.objectContaining({ code: 'arguments_invalid' }),
  )
  expect(readdirSync(folder)).toEqual([])
})

test('a file that is not one of access keys is refused and stays as it is', () => {
  writeFileSync(path, '{"keys": [{"sha256": "no"}]}')

  expect(() => addAccessKey(path, teller)).toThrow(
    expect.objectContaining({ code: 'access_keys_invalid' }),
  )
  expect(readFileSync(path, 'utf8')).toBe('{"keys": [{"sha256": "no"}]}')
  expect(readdirSync(folder)).toEqual(['access-keys.json'])
})

test('while another addition has not ended, nothing is added and its file is left to it', () => {
  const first = addAccessKey(path, teller)
  writeFileSync(`${path}.new`, 'half')

  expect(() => addAccessKey(path, teller)).toThrow(
    expect.objectContaining({ code: 'access_keys_busy' }),
  )
  expect(readFileSync(`${path}.new`, 'utf8')).toBe('half')
  expect(callerOf(first).name).toBe('ada')
})

test('the command makes a key for a teller called development unless told otherwise', () => {
  const made = runAccessKeyCommand([path])
  const asked = runAccessKeyCommand([path, 'query-api', 'service'])

  expect(callerOf(made.key ?? '')).toEqual({ name: 'development', role: 'teller' })
  expect(callerOf(asked.key ?? '')).toEqual({ name: 'query-api', role: 'service' })
  expect(made.said).not.toContain(made.key)
})

test('with --if-missing a file that exists is left alone, and the command says so', () => {
  const first = runAccessKeyCommand(['--if-missing', path])
  const before = readFileSync(path, 'utf8')
  const second = runAccessKeyCommand(['--if-missing', path])

  expect(callerOf(first.key ?? '').name).toBe('development')
  expect(second).toEqual({ said: `${path} exists and is left alone: no key was made\n` })
  expect(readFileSync(path, 'utf8')).toBe(before)
})

const given = 'a-key_that.exists~already+of/length-40xx'
const feedReader = { caller: 'query-api', role: 'service' }

test('a key that exists identifies its caller, and neither the file nor what is said holds it', () => {
  const development = addAccessKey(path, teller)
  const args = ['--key-env', 'SOME_KEY', path, 'query-api', 'service']
  const { key, said } = runAccessKeyCommand(args, { SOME_KEY: given })

  expect(callerOf(given)).toEqual({ name: 'query-api', role: 'service' })
  expect(callerOf(development).name).toBe('ada')
  expect(key).toBeUndefined()
  expect(said).toContain('SOME_KEY is now the access key of query-api (service)')
  expect(said).not.toContain(given)
  expect(readFileSync(path, 'utf8')).not.toContain(given)
})

test('setting the same key again writes nothing, and says so', () => {
  const args = ['--key-env', 'SOME_KEY', path, 'query-api', 'service']
  runAccessKeyCommand(args, { SOME_KEY: given })
  const before = statSync(path, { bigint: true })
  const { said } = runAccessKeyCommand(args, { SOME_KEY: given })

  expect(said).toContain('SOME_KEY was already')
  expect(statSync(path, { bigint: true })).toMatchObject({
    ino: before.ino,
    mtimeNs: before.mtimeNs,
  })
  expect(readdirSync(folder)).toEqual(['access-keys.json'])
})

test("another key or role of the same caller takes the old one's place", () => {
  setAccessKey(path, { caller: 'query-api', role: 'auditor' }, given)
  expect(setAccessKey(path, feedReader, given)).toBe(true)
  expect(callerOf(given).role).toBe('service')

  expect(setAccessKey(path, feedReader, `${given}-2`)).toBe(true)
  expect(callerOf(`${given}-2`)).toEqual({ name: 'query-api', role: 'service' })
  expect(() => callerOf(given)).toThrow(expect.objectContaining({ code: 'unauthenticated' }))
})

test.each([
  ['too short', 'x'.repeat(31)],
  ['too long', 'x'.repeat(257)],
  ['with a space', `${given} x`],
  ['with a line end', `${given}\n`],
  ['with a letter that is not ASCII', `${given}é`],
])('a key %s is refused without being repeated, and no file is made', (_name, key) => {
  const args = ['--key-env', 'SOME_KEY', path, 'query-api', 'service']
  const refused = (() => {
    try {
      return runAccessKeyCommand(args, { SOME_KEY: key })
    } catch (error) {
      return error as Error
    }
  })()

  expect(refused).toMatchObject({ code: 'arguments_invalid' })
  expect(refused).toHaveProperty('message', expect.not.stringContaining(key))
  expect(readdirSync(folder)).toEqual([])
})

test("another caller's key is refused, and stays as it is", () => {
  setAccessKey(path, teller, given)

  expect(() => setAccessKey(path, feedReader, given)).toThrow(
    expect.objectContaining({ code: 'arguments_invalid' }),
  )
  expect(callerOf(given).name).toBe('ada')
  expect(readdirSync(folder)).toEqual(['access-keys.json'])
})

test.each([[{}], [{ SOME_KEY: '' }]])('a variable without a key (%j) is named', (environment) => {
  expect(() => runAccessKeyCommand(['--key-env', 'SOME_KEY', path], environment)).toThrow(
    'SOME_KEY is not set',
  )
})

test.each([
  [[]],
  [['a', 'b', 'teller', 'more']],
  [['--if-mising', 'a']],
  [['--key-env']],
  [['--if-missing', '--key-env', 'SOME_KEY', 'a']],
])('arguments that cannot be understood (%j) are answered with how to say it', (args) => {
  expect(() => runAccessKeyCommand(args)).toThrow(/node service\/access-key\.ts/)
})
