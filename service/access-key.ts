// node service/access-key.ts [--if-missing | --key-env <variable>] <file> [caller] [role]
import {
  chmodSync,
  chownSync,
  existsSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { isDeepStrictEqual, parseArgs } from 'node:util'
import { z } from 'zod'
import { accessKeysFile, hashOfAccessKey, newAccessKey } from './access.ts'

type AccessKeyErrorCode = 'arguments_invalid' | 'access_keys_invalid' | 'access_keys_busy'

/** An expected failure: its message is for the person who typed the command. */
class AccessKeyError extends Error {
  readonly code: AccessKeyErrorCode

  constructor(code: AccessKeyErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'AccessKeyError'
    this.code = code
  }
}

const usage = `node service/access-key.ts [--if-missing | --key-env <variable>] <file> [caller] [role]

Adds a new access key to the file, made when it is missing, and prints the key: only now, because
the file keeps nothing but its hash. The services read the file again by themselves.

  caller        who will be calling: 1 to 64 letters, digits, dots, dashes, underscores ("development")
  role          customer, teller, operator, auditor or service ("teller")
  --if-missing  leaves a file that exists alone
  --key-env     makes no key and prints none: the caller's key is what this environment variable
                holds, in place of any that the caller had; 32 to 256 letters, digits, - . _ ~ + /
  --help        this text
`

type Who = { caller: string; role: string }
type AccessKeys = z.output<typeof accessKeysFile>['keys']

/** What goes into a header as it is. Shorter than a key of ours, but not to be guessed. */
const givenKeyPattern = /^[A-Za-z0-9._~+/-]{32,256}$/

/**
 * Adds a new key for a caller and returns it. The file is replaced in one step and keeps its owner
 * and mode; a new one can be read by its owner alone.
 * Throws `arguments_invalid`, `access_keys_invalid` when the file is not one of access keys, and
 * `access_keys_busy` when another addition has not ended.
 */
export function addAccessKey(path: string, who: Who, newKey: () => string = newAccessKey): string {
  const key = newKey()
  const added = entryOf(key, who)
  replaceKeys(path, (keys) => [...keys, added])
  return key
}

/**
 * Makes a key that exists already the only one of a caller: the one before it, which may be a
 * default that everybody knows, lets nobody in any more. Returns false, and leaves the file as it
 * is, when it says just that. Throws as addAccessKey does; no message holds the key.
 */
export function setAccessKey(path: string, who: Who, key: string): boolean {
  if (!givenKeyPattern.test(key)) {
    const taken = '32 to 256 letters, digits, dashes, dots, underscores, ~, + or /'
    throw new AccessKeyError('arguments_invalid', `the key of ${who.caller} must be ${taken}`)
  }
  const own = entryOf(key, who)
  return replaceKeys(path, (keys) => {
    const others = keys.filter((each) => each.caller !== own.caller)
    if (others.some((each) => each.sha256 === own.sha256)) {
      throw new AccessKeyError('arguments_invalid', `the key of ${own.caller} is another's already`)
    }
    const present = keys.filter((each) => each.caller === own.caller)
    const isSet = present.length === 1 && isDeepStrictEqual(present[0], own)
    return isSet ? keys : [...others, own]
  })
}

function entryOf(key: string, who: Who): AccessKeys[number] {
  const entry = { sha256: hashOfAccessKey(key), ...who }
  const parsed = accessKeysFile.shape.keys.element.safeParse(entry)
  if (parsed.success) return parsed.data
  throw new AccessKeyError('arguments_invalid', z.prettifyError(parsed.error))
}

/** Whether there was anything to write: `change` gives back the same list when there is not. */
function replaceKeys(path: string, change: (keys: AccessKeys) => AccessKeys): boolean {
  const unfinished = `${path}.new`
  claim(unfinished)
  try {
    const present = existsSync(path) ? readKeys(path) : []
    const keys = change(present)
    if (keys === present) {
      rmSync(unfinished)
      return false
    }
    writeFileSync(unfinished, `${JSON.stringify({ keys }, null, 2)}\n`, { flush: true })
    if (existsSync(path)) {
      const { uid, gid, mode } = statSync(path)
      chownSync(unfinished, uid, gid)
      chmodSync(unfinished, mode & 0o777)
    }
    renameSync(unfinished, path)
    return true
  } catch (error) {
    rmSync(unfinished, { force: true })
    throw error
  }
}

/** Two additions at once would each lose the other's key: the second finds this file and stops. */
function claim(unfinished: string): void {
  try {
    writeFileSync(unfinished, '', { mode: 0o600, flag: 'wx' })
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') throw cause
    throw new AccessKeyError(
      'access_keys_busy',
      `${unfinished} exists: another key is being added, or was when its process was killed; ` +
        'remove that file when nothing is adding keys',
      { cause },
    )
  }
}

function readKeys(path: string) {
  try {
    return accessKeysFile.parse(JSON.parse(readFileSync(path, 'utf8'))).keys
  } catch (cause) {
    throw new AccessKeyError('access_keys_invalid', `${path} is not a file of access keys`, {
      cause,
    })
  }
}

/** What to print: `key` alone on standard output, so that a script can take it from there. */
export function runAccessKeyCommand(
  args: readonly string[],
  environment: NodeJS.ProcessEnv = process.env,
): { key?: string; said: string } {
  const { values, positionals } = readArguments(args)
  if (values.help) return { said: usage }
  const [path, caller = 'development', role = 'teller', ...more] = positionals
  const { 'if-missing': ifMissing, 'key-env': variable } = values
  if (path === undefined || more.length > 0 || (ifMissing && variable !== undefined)) {
    throw new AccessKeyError('arguments_invalid', usage)
  }
  if (variable !== undefined) {
    const given = environment[variable] ?? ''
    if (given === '') throw new AccessKeyError('arguments_invalid', `${variable} is not set`)
    const done = setAccessKey(path, { caller, role }, given)
    const said = `${variable} ${done ? 'is now' : 'was already'} the access key of ${caller}`
    return { said: `${said} (${role}): ${path} keeps its hash\n` }
  }
  if (ifMissing && existsSync(path)) {
    return { said: `${path} exists and is left alone: no key was made\n` }
  }
  const key = addAccessKey(path, { caller, role })
  return {
    key,
    said: `new access key of ${caller} (${role}), shown only this once: ${path} keeps its hash\n`,
  }
}

function readArguments(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        'if-missing': { type: 'boolean', default: false },
        'key-env': { type: 'string' },
        help: { type: 'boolean', short: 'h', default: false },
      },
    })
  } catch (cause) {
    throw new AccessKeyError('arguments_invalid', `${(cause as Error).message}\n\n${usage}`, {
      cause,
    })
  }
}

if (import.meta.main) {
  try {
    const { key, said } = runAccessKeyCommand(process.argv.slice(2))
    process.stderr.write(said)
    if (key !== undefined) process.stdout.write(`${key}\n`)
  } catch (error) {
    process.stderr.write(`${(error as Error).message.trimEnd()}\n`)
    process.exitCode = 1
  }
}
