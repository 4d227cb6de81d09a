// node service/access-key.ts [--if-missing] <file> [caller] [role]
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
import { parseArgs } from 'node:util'
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

const usage = `node service/access-key.ts [--if-missing] <file> [caller] [role]

Adds a new access key to the file, made when it is missing, and prints the key: only now, because
the file keeps nothing but its hash. The services read the file again by themselves.

  caller        who will be calling: 1 to 64 letters, digits, dots, dashes, underscores ("development")
  role          customer, teller, operator, auditor or service ("teller")
  --if-missing  leaves a file that exists alone
  --help        this text
`

/**
 * Adds a new key for a caller and returns it. The file is replaced in one step and keeps its owner
 * and mode; a new one can be read by its owner alone.
 * Throws `arguments_invalid`, `access_keys_invalid` when the file is not one of access keys, and
 * `access_keys_busy` when another addition has not ended.
 */
export function addAccessKey(
  path: string,
  who: { caller: string; role: string },
  newKey: () => string = newAccessKey,
): string {
  const key = newKey()
  const added = accessKeysFile.safeParse({ keys: [{ sha256: hashOfAccessKey(key), ...who }] })
  if (!added.success) throw new AccessKeyError('arguments_invalid', z.prettifyError(added.error))
  const unfinished = `${path}.new`
  claim(unfinished)
  try {
    const keys = existsSync(path) ? [...readKeys(path), ...added.data.keys] : added.data.keys
    writeFileSync(unfinished, `${JSON.stringify({ keys }, null, 2)}\n`, { flush: true })
    if (existsSync(path)) {
      const { uid, gid, mode } = statSync(path)
      chownSync(unfinished, uid, gid)
      chmodSync(unfinished, mode & 0o777)
    }
    renameSync(unfinished, path)
  } catch (error) {
    rmSync(unfinished, { force: true })
    throw error
  }
  return key
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
  newKey: () => string = newAccessKey,
): { key?: string; said: string } {
  const { values, positionals } = readArguments(args)
  if (values.help) return { said: usage }
  const [path, caller = 'development', role = 'teller', ...more] = positionals
  if (path === undefined || more.length > 0) throw new AccessKeyError('arguments_invalid', usage)
  if (values['if-missing'] && existsSync(path)) {
    return { said: `${path} exists and is left alone: no key was made\n` }
  }
  const key = addAccessKey(path, { caller, role }, newKey)
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
