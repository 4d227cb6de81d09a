import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { casesOf, describe } from './cases.ts'
import { type Direction, directions, nameOf, placesOf, stepsOf, undoing } from './places.ts'

// Which steps there are is read from the relay's source: a step that is new, or written elsewhere, fails
// here until the drill has places around it.

const read = (file: string) =>
  readFileSync(new URL(`../../outbox-relay/${file}`, import.meta.url), 'utf8')
const all = (pattern: RegExp, text: string) =>
  [...text.matchAll(pattern)].map(([, found = '']) => found)
const written = (text: string) => all(/(?:step|next)\('([\w ]+)'\)/g, text)
const part = (text: string, from: string, to: string) => text.split(from)[1]?.split(to)[0] ?? ''

const steps = all(/'([^'\n]+)'/g, part(read('switch-table.ts'), 'type Step =', '\nconst '))
const handover = written(read('handover.ts'))
const [entry = '', leaving = ''] = read('debezium/connector-entry.ts').split('leaveConnector(')
const into = {
  polling: [],
  wal: [...handover, ...written(read('wal/wal-mode.ts'))],
  debezium: [...handover, ...written(entry), ...written(read('debezium/debezium-mode.ts'))],
}
const outOf = { polling: [], wal: [], debezium: written(leaving) }
const leave = written(read('course.ts'))

const named = (direction: Direction) => casesOf(nameOf(direction))

test('the relay writes every step that there is, and each is on a way into a mode or out of one', () => {
  expect(leave).toEqual(['leave'])
  const found = [...leave, ...into.wal, ...into.debezium, ...outOf.debezium]
  expect(new Set(found)).toEqual(new Set(steps))
  expect(steps).toHaveLength(10)
})

test.each(directions)('from $from to $to there are places before and at each step', (direction) => {
  const { from, to } = direction
  const wanted = new Set([...leave, ...outOf[from], ...into[to]])
  expect(new Set(stepsOf(direction))).toEqual(wanted)
  const places = placesOf(direction)
  const around = [...wanted].flatMap((step) => [`before ${step}`, `at ${step}`])
  expect(places).toEqual(expect.arrayContaining([...around, 'before arrival', 'after arrival']))
  expect(new Set(places).size).toBe(places.length)
})

test('every place is met in every direction that has it, and by both signals in one of them', () => {
  const signals = new Map<string, Set<string>>()
  for (const direction of directions) {
    const cases = named(direction).filter(({ calledOff }) => calledOff === undefined)
    expect(new Set(cases.map(({ place }) => place))).toEqual(new Set(placesOf(direction)))
    for (const { place, signal } of cases) {
      signals.set(place, (signals.get(place) ?? new Set()).add(signal))
    }
  }
  expect([...signals.values()].map(({ size }) => size)).toEqual(Array(signals.size).fill(2))
  expect([...signals.keys()]).toEqual(expect.arrayContaining(['at drop slot', 'after PUT stop']))
})

test('a switch is called off wherever it has made something, and taken down under both signals', () => {
  const off = casesOf('called off')
  const left = off.filter(({ signal }) => signal === 'nothing')
  for (const step of ['make connector', 'set offsets', 'wait for writers', 'begin']) {
    expect(left.map(describe).join()).toContain(`called off at ${step}`)
  }
  for (const place of undoing) {
    expect(off.filter((each) => each.place === place).length).toBeGreaterThanOrEqual(2)
  }
  expect(casesOf('at cancel')).toHaveLength(4 * 3)
})

test('the cases have names of their own, and are no more than 25 minutes are enough for', () => {
  const names = casesOf(undefined).map(describe)
  expect(new Set(names).size).toBe(names.length)
  // Of 7 s each.
  expect(names.length).toBeLessThanOrEqual((25 * 60) / 7)
})
