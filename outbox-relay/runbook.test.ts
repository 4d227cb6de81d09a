import { globSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

// Whatever GET /relay can say is in the README's runbook: taken from the source, so that a new code or
// sentence fails here until somebody has written what to do about it.

const read = (file: string) => readFileSync(new URL(file, import.meta.url), 'utf8')
const part = (text: string, from: string, to: string) => text.split(from)[1]?.split(to)[0] ?? ''
const quoted = (text: string) => [...text.matchAll(/'([^'\n]+)'/g)].map(([, found = '']) => found)
const all = (pattern: RegExp, ...files: string[]) =>
  files.flatMap((file) => [...read(file).matchAll(pattern)].map(([, found = '']) => found))

const readme = read('./README.md')
const runbook = part(readme, '\n## What to do\n', '\nSettings: ')
const isRow = (text: string, code: string) =>
  text.split('\n').some((line) => line.startsWith('|') && line.includes('`' + code))

const codes = [
  ...quoted(part(read('./errors.ts'), 'type RelayErrorCode =', '\n\n')),
  ...all(/lastError\('(\w+)'/g, './relay-state.ts'),
  ...quoted(part(read('./retention/plan.ts'), 'type AlarmCode =', '\n')),
]
const sentences = [
  ...all(/^  '[\w ]+': '([^']{1,48})/gm, './handover.ts'),
  ...all(/cannot(?:: | = )'([^']+)'/g, './wal/wal-entry.ts', './debezium/connector-entry.ts'),
  ...all(/noteWaiting\(notes, [`']([^:`']+)/g, './debezium/debezium-mode.ts'),
  ...all(/name\}: ([a-z]+ [a-z]+)/g, './retention/plan.ts'),
  ...all(/return '(Kafka Connect [^',]+)/g, './debezium/watched-connector.ts'),
]
const steps = quoted(part(read('./switch-table.ts'), 'type Step =', '\nconst '))

test('there is something to look for', () => {
  expect([codes.length, sentences.length, steps.length]).toEqual([21, 13, 10])
})

test.each([...codes, ...sentences])('%s is in the runbook', (each) => {
  expect(isRow(runbook, each)).toBe(true)
})

test.each(steps)('the step %s is in the table of steps', (step) => {
  expect(isRow(part(readme, '\n## Switching\n', '\n## '), step)).toBe(true)
})

test('a code that nobody wrote about is missed', () => {
  expect(isRow(runbook, 'slot_unheard_of')).toBe(false)
})

// The tables also name the tests that show what they say: `file.test.ts`: words of a title; of another.

const repository = fileURLToPath(new URL('..', import.meta.url))
const testFiles = globSync('{outbox-relay,kafka}/**/*.test.ts', { cwd: repository })

/** Of the files that a table calls so, `*` being any folder, and of the suites that they run. */
function textsOf(name: string): string[] {
  const called = new RegExp(`(^|/)${name.replaceAll('.', '\\.').replaceAll('*', '[^/]+')}$`)
  return testFiles
    .filter((file) => called.test(file))
    .flatMap((file) => {
      const text = read(`../${file}`)
      const folder = file.slice(0, file.lastIndexOf('/') + 1)
      const suites = [...text.matchAll(/ from '(\.[^']*\/(?:test-|[\w-]+-conformance)[^']*)'/g)]
      return [text, ...suites.map(([, suite = '']) => read(`../${folder}${suite}`))]
    })
}

const titlesOf = (name: string) =>
  textsOf(name).flatMap((text) =>
    [...text.matchAll(/\(\s*(['`])((?:(?!\1).)+)\1,\s*(?:async\b|\(|\{)/g)].map(
      ([, , title = '']) => title,
    ),
  )

type Named = { files: string[]; words: string }

/** What the cells of all tables name: files, and words of titles in them, or none. */
function namedIn(markdown: string): Named[] {
  const named: Named[] = []
  let files: string[] = []
  for (const cell of markdown.match(/(?<=\|)[^|\n]+(?=\|)/g) ?? []) {
    if (!/test\.ts`|the same:/.test(cell)) continue
    for (const part of cell.split(';')) {
      const [before = '', after = ''] = part.split(/: (?=[^`]*$)/)
      const given = [...before.matchAll(/`([^`\s]+\.test\.ts)`/g)].map(([, file = '']) => file)
      if (given.length > 0) files = given
      else if (part.includes('`')) continue
      const words = given.length > 0 || before.includes('the same') ? after : part
      named.push({ files, words: words.trim() })
    }
  }
  return named
}

const isThere = ({ files, words }: Named) =>
  files.every((file) => textsOf(file).length > 0) &&
  files.some((file) => titlesOf(file).some((title) => title.includes(words)))

const named = namedIn(readme).map((each) => ({ ...each, name: each.files.join(' and ') }))

test('tests are named', () => {
  expect(named.length).toBeGreaterThan(80)
})

test.each(named)('$name has a test of the words "$words"', (each) => {
  expect(isThere(each)).toBe(true)
})

test('a test that nobody wrote is missed, and so is a file', () => {
  const [right, ...wrong] = namedIn(
    '| x | `lease.test.ts`: whatever the delays; never heard of | `slack.test.ts` |',
  )
  expect(right).toEqual({ files: ['lease.test.ts'], words: 'whatever the delays' })
  expect([right!, ...wrong].map(isThere)).toEqual([true, false, false])
})
