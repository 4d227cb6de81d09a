import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { describe, expect, it } from 'vitest'

// The limits that a linter's own rules cannot hold: who may import whom, and what must not be left
// behind. Lengths of files and functions are in .oxlintrc.json, dead code is knip's.

type Source = { path: string; text: string }

const folderOf = (path: string) => path.split('/')[0] ?? ''
const importsOf = ({ text }: Source) =>
  [...text.matchAll(/(?:from |import\(|import )'([^']+)'/g)].map((match) => match[1] ?? '')

/** A relative import stays in its workspace: other workspaces are reached by what they export. */
function importsOutside(source: Source): string[] {
  return importsOf(source)
    .filter((name) => name.startsWith('.'))
    .filter(
      (name) => folderOf(normalize(join(dirname(source.path), name))) !== folderOf(source.path),
    )
    .map((name) => `${source.path} imports ${name}: go through the other workspace's exports`)
}

/** Each folder, and those it must never import; the reasons are in README.md's map. */
const forbidden: Readonly<Record<string, readonly string[]>> = {
  'command-api': ['outbox-relay', 'query-api', 'kafka', 'kafkajs'],
  'outbox-relay': ['command-api', 'query-api', 'kafkajs'],
  'query-api': ['kafkajs', 'migrations/write'],
  migrations: ['command-api', 'outbox-relay', 'query-api', 'kafkajs'],
  service: ['command-api', 'outbox-relay', 'query-api', 'kafka', 'kafkajs', 'migrations', 'pg'],
  kafka: ['command-api', 'outbox-relay', 'query-api', 'migrations', 'pg'],
  connect: ['command-api', 'outbox-relay', 'query-api', 'kafka', 'kafkajs', 'migrations', 'pg'],
  drills: ['command-api', 'outbox-relay', 'query-api', 'kafka'],
}

/** Tests, and the files named `test-...` that they share. */
const isForTests = (path: string) => /\.test\.ts$|(?:^|\/)test-[a-z-]+\.ts$/.test(path)

function importsForbidden(source: Source): string[] {
  if (isForTests(source.path)) return []
  const banned = forbidden[folderOf(source.path)] ?? []
  return importsOf(source)
    .filter((name) => banned.some((each) => name === each || name.startsWith(`${each}/`)))
    .map((name) => `${source.path} imports ${name}, which its folder must not know`)
}

const leftovers: readonly [pattern: RegExp, why: string][] = [
  [/\b(?:TODO|FIXME|XXX|HACK)\b/, 'a note to do later: do it or say it in an issue'],
  [/\b(?:it|test|describe)\.(?:only|skip|todo)\b/, 'a test that is left out'],
  [/@ts-(?:ignore|nocheck|expect-error)|(?:eslint|oxlint)-disable/, 'a silenced check'],
  [/\bdebugger\b/, 'a breakpoint'],
  [/(?:^|[^\w.$])\/(?:home|root|work|Users)\//, 'a path of one machine'],
  [/exactly[- ]once delivery/i, 'a promise that nobody can keep'],
]

function left(source: Source): string[] {
  return leftovers.flatMap(([pattern, why]) => {
    const lines = source.text.split('\n')
    const at = lines.findIndex((line) => pattern.test(line))
    return at === -1 ? [] : [`${source.path}:${at + 1} has ${why}`]
  })
}

const tracked = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'])
  .toString()
  .split('\n')
  .filter((path) => /\.(?:ts|sql|md|yml|json)$/.test(path) && path !== 'package-lock.json')
  .filter((path) => existsSync(path))
const sources = tracked.map((path) => ({ path, text: readFileSync(path, 'utf8') }))
const code = sources.filter(({ path }) => path.endsWith('.ts') && path !== 'tidy.test.ts')

describe('the tree', () => {
  it('is read', () => {
    expect(code.length).toBeGreaterThan(50)
  })

  it('keeps relative imports inside their workspace', () => {
    expect(code.flatMap(importsOutside)).toEqual([])
  })

  it('lets no folder import what it must not know', () => {
    expect(code.flatMap(importsForbidden)).toEqual([])
  })

  it('has no leftovers', () => {
    expect(sources.filter(({ path }) => path !== 'tidy.test.ts').flatMap(left)).toEqual([])
  })
})

describe('these rules', () => {
  it('catch an import past the exports of a workspace', () => {
    const text = "import { x } from '../outbox-relay/wire.ts'\nimport { y } from './own.ts'"
    expect(importsOutside({ path: 'query-api/a.ts', text })).toEqual([
      "query-api/a.ts imports ../outbox-relay/wire.ts: go through the other workspace's exports",
    ])
  })

  it('catch an import of what a folder must not know, except in tests', () => {
    const text = "import { encode } from 'outbox-relay/wire'"
    expect(importsForbidden({ path: 'command-api/a.ts', text })).toEqual([
      'command-api/a.ts imports outbox-relay/wire, which its folder must not know',
    ])
    expect(importsForbidden({ path: 'command-api/a.test.ts', text })).toEqual([])
    expect(importsForbidden({ path: 'command-api/test-a.ts', text })).toEqual([])
    expect(importsForbidden({ path: 'command-api/latest-a.ts', text })).toHaveLength(1)
    const lazy = "const { Kafka } = await import('kafkajs')"
    expect(importsForbidden({ path: 'query-api/a.ts', text: lazy })).toHaveLength(1)
  })

  it.each([
    '// TODO later',
    "it.only('x', () => {})",
    '// @ts-ignore',
    'debugger',
    "open('/home/me/x')",
    'gives exactly-once delivery',
  ])('catch %s', (line) => {
    const [message] = left({ path: 'a.ts', text: `fine\n${line}\n` })
    expect(message).toMatch(/^a\.ts:2 has /)
  })
})
