import { readEnvironment } from 'service/environment'
import { expect, test } from 'vitest'
import { variables } from './config.ts'
import { readModels } from './projections/table.ts'
import { accountState } from './status.ts'

const names = [...readModels.map(({ projection }) => projection.name), accountState]

const read = (given: Record<string, string>) =>
  readEnvironment(variables, {
    AUTH: 'off',
    READ_DATABASE_URL: 'postgres://sluice_query@localhost/read',
    PROJECTOR_DATABASE_URL: 'postgres://sluice_projector@localhost/read',
    KAFKA_BROKERS: 'localhost:9092',
    CURSOR_SECRET: 'a secret of at least 32 characters',
    ...given,
  })

test('PROJECTIONS says which run here: all of them unless it is set, none by that word', () => {
  expect(new Set(names).size).toBe(names.length)
  expect(read({}).PROJECTIONS).toEqual(names)
  expect(read({ PROJECTIONS: ' accounts ' }).PROJECTIONS).toEqual(['accounts'])
  expect(read({ PROJECTIONS: 'none' }).PROJECTIONS).toEqual([])
})

test.each(['acounts', 'accounts,', 'none,accounts', 'ACCOUNTS'])(
  'PROJECTIONS=%s is refused, and the known ones are listed',
  (PROJECTIONS) => {
    expect(() => read({ PROJECTIONS })).toThrow(`or some of ${names.join(', ')}`)
  },
)

test('a process that would neither project nor answer is refused', () => {
  expect(() => read({ PROJECTIONS: 'none', READS: 'off' })).toThrow('READS')
  expect(read({ READS: 'off' }).READS).toBe('off')
})

test('TIERS is refused with all that is wrong with it, beside every other bad variable', () => {
  expect(read({ TIERS: 'EUR:0,10000' }).TIERS).toEqual(new Map([['EUR', [0n, 10_000n]]]))
  expect(read({}).TIERS).toEqual(new Map())
  const bad = { TIERS: 'EUR:5,5;CHF:1e3', CURSOR_SECRET: 'short' }
  for (const problem of ['TIERS: EUR: 5 comes after 5', 'TIERS: CHF: "1e3"', 'CURSOR_SECRET']) {
    expect(() => read(bad)).toThrow(problem)
  }
})
