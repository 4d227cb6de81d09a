import { readFileSync } from 'node:fs'
import { join } from 'node:path/posix'
import { expect, test } from 'vitest'

// A checker that shared code with what it checks would share its mistakes.

const roots = ['checker.ts', 'tables.ts', 'topic-reader.ts', 'progress-watch.ts']
const allowed = /^(?:node:[a-z/_]+|kafkajs|pg)$/
const literal = /^(['"`])([^'"`$]+)\1$/
/** The quoted name of a static import or export; all that is between the brackets of a dynamic one. */
const importing =
  /\bfrom\s*(['"][^'"]+['"])|\bimport\s*(['"][^'"]+['"])|\b(?:import|require)\s*\(([^)]*)\)/g

type Read = (file: string) => string

const readDrills: Read = (file) => readFileSync(new URL(file, import.meta.url), 'utf8')

/** Whatever is reached by imports of imports. A name that is made as it runs counts as foreign. */
function walk(files: readonly string[], read: Read): { reached: Set<string>; foreign: string[] } {
  const reached = new Set(files)
  const foreign: string[] = []
  for (const file of reached) {
    for (const [, ...ways] of read(file).matchAll(importing)) {
      const said = ways.find((way) => way !== undefined)?.trim() ?? ''
      const name = literal.exec(said)?.[2] ?? said
      const path = join(file, '..', name)
      if (name.startsWith('.') && !path.startsWith('..')) reached.add(path)
      else if (!allowed.test(name)) foreign.push(`${file} imports ${name}`)
    }
  }
  return { reached, foreign }
}

test('the checker imports nothing of the product, whichever way its files reach each other', () => {
  const { reached, foreign } = walk(roots, readDrills)
  expect(foreign).toEqual([])
  const own = ['account-check.ts', 'delivery-check.ts', 'history-check.ts', 'sql.ts']
  expect([...reached]).toEqual(expect.arrayContaining([...roots, ...own]))
})

test.each([
  ["import { a } from 'outbox-relay/polling'", 'outbox-relay/polling'],
  ["import type { A } from 'migrations/write/tables'", 'migrations/write/tables'],
  ['export * from "../../command-api/events.ts"', '../../command-api/events.ts'],
  ["import 'service/backoff'", 'service/backoff'],
  ["const a = await import('kafka/record')", 'kafka/record'],
  ['const a = await import(\n  "kafka/record"\n)', 'kafka/record'],
  ['const a = await import(`${b}`)', '`${b}`'],
  ['const a = await import(where)', 'where'],
  ["const a = require('kafka')", 'kafka'],
])('two files away, %s is found', (text, name) => {
  const files: Record<string, string> = {
    'a.ts': "import { b } from './b.ts'",
    'b.ts': "import pg from 'pg'\nconst c = await import('./within/c.ts')",
    'within/c.ts': text,
  }
  const { foreign } = walk(['a.ts'], (file) => files[file] ?? '')
  expect(foreign).toEqual([`within/c.ts imports ${name}`])
})
