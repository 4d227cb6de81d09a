import { expect, test } from 'vitest'
import { BenchError } from './errors.ts'
import { figure, tableOf } from './figures.ts'
import { exitCodeOf, runPart } from './parts.ts'

const drained = figure({ part: 'a', name: 'drain', unit: 'events/s', rounds: [12_345] })
const drain = { part: 'a', title: 'drain', checked: 'counts are right' }
const projection = { part: 'b', title: 'projection', checked: 'balances are right' }

function run(part: typeof drain, measure: () => ReturnType<Parameters<typeof runPart>[1]>) {
  const said: string[] = []
  const progress = { step: (text: string) => void said.push(text), tick: () => {} }
  return runPart(part, measure, progress).then((result) => ({ result, said }))
}

test('a part whose checks pass says what they were, prints its figures and exits with 0', async () => {
  const { result } = await run(drain, async () => [drained])
  expect(result).toMatchObject({ figures: [drained], checked: drain.checked, failed: false })
  expect(tableOf([result])).toContain('12,345')
  expect(exitCodeOf([result])).toBe(0)
})

test('a part that throws prints FAILED and no figure; the exit code is 1, whatever others do', async () => {
  const { result: good } = await run(drain, async () => [drained])
  const { result: bad, said } = await run(projection, async () => {
    throw new BenchError('violation', 'accounts projected: 9, and must be 10')
  })
  const why = 'violation: accounts projected: 9, and must be 10'
  expect(said).toEqual([`FAILED: ${why}`])
  expect(bad).toMatchObject({ ...projection, figures: [], checked: why, failed: true })
  const table = tableOf([good, bad])
  expect(table).toMatch(/^b projection +FAILED$/m)
  expect(table).toContain(`b projection: FAILED: ${why}`)
  expect(table).not.toContain(projection.checked)
  expect(table).toContain('12,345')
  for (const results of [[bad], [good, bad], [bad, good]]) expect(exitCodeOf(results)).toBe(1)
})
