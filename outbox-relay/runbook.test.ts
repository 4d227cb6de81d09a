import { readFileSync } from 'node:fs'
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
