import {
  refusals,
  touchedBy,
  type Account,
  type Asked,
  type Bank,
  type Rules,
} from './test-bank.ts'
import { accountsIn, checked, type Answered } from './test-world.ts'

// Commands at the same moment happen in some order, which nobody chose. The accepted ones tell it by
// the versions in their answers, and it must be one that whoever looked at a clock can believe: what
// was answered before another was sent comes before it. In that order the model is asked again, and
// each refusal must be one that it gives at a moment between its sending and its answer.

/** What one caller asked and was told; milliseconds of one clock. */
export type Told = { asked: Asked; answer: Answered; startMs: number; endMs: number; at: string }

type Effect = { told: Told; touched: { id: string; first: number; last: number }[] }
type Snapshots = Map<string, Map<number, Account | undefined>>

/** Everything that the model does not believe. `rows` are the versions of the accounts at the end. */
export function faultsOf(
  rule: Rules,
  history: readonly Told[],
  rows: ReadonlyMap<string, number>,
): string[] {
  const effects = history.filter(({ answer }) => answer.status < 300).map(effectOf)
  const holes = versionFaults(effects, rows)
  if (holes.length > 0) return holes
  const order = ordered(effects)
  if (order === null) return ['order: the answers contradict each other, or the clock']
  const faults: string[] = []
  const snapshots: Snapshots = new Map()
  let bank: Bank = new Map()
  for (const { told, touched } of order) {
    try {
      bank = checked(rule, bank, told.asked, told.answer, told.at)
    } catch (error) {
      return [
        ...faults,
        `accepted: ${JSON.stringify(told.asked, asText)}: ${(error as Error).message}`,
      ]
    }
    for (const { id, last } of touched) {
      const seen = snapshots.get(id) ?? new Map([[0, undefined]])
      snapshots.set(id, seen.set(last, bank.get(id)))
    }
  }
  for (const told of history.filter(({ answer }) => answer.status >= 300)) {
    if (!isExplained(rule, told, { snapshots, effects, bank })) {
      const { status, json } = told.answer
      faults.push(`refused: ${JSON.stringify(told.asked, asText)}: ${status} ${json.code}`)
    }
  }
  return faults
}

const asText = (_: string, value: unknown) => (typeof value === 'bigint' ? String(value) : value)

function effectOf(told: Told): Effect {
  const { asked, answer } = told
  const opensWithMoney = asked.kind === 'OpenAccount' && asked.openingDeposit !== null
  const touched = accountsIn(answer.json).map(({ id, version }) => ({
    id,
    first: opensWithMoney ? version - 1 : version,
    last: version,
  }))
  return { told, touched }
}

/** Each version of an account was told to one caller, and to one only. */
function versionFaults(effects: readonly Effect[], rows: ReadonlyMap<string, number>): string[] {
  const faults: string[] = []
  const ids = new Set([
    ...rows.keys(),
    ...effects.flatMap((each) => each.touched.map(({ id }) => id)),
  ])
  for (const id of ids) {
    const spans = effects.flatMap((each) => each.touched.filter((one) => one.id === id))
    let next = 1
    for (const { first, last } of spans.toSorted((a, b) => a.first - b.first)) {
      if (first !== next) faults.push(`versions: ${id} ${next} expected, ${first} told`)
      next = last + 1
    }
    const last = rows.get(id) ?? 0
    if (next - 1 !== last) faults.push(`versions: ${id} is at ${last}, told up to ${next - 1}`)
  }
  return faults
}

/** An order of all effects that agrees with each account's versions and with the clock, or null. */
function ordered(effects: readonly Effect[]): Effect[] | null {
  const touching = effects.flatMap((each) => each.touched.map((one) => ({ each, ...one })))
  const lines = [...Map.groupBy(touching, ({ id }) => id).values()].map((line) =>
    line.toSorted((a, b) => b.first - a.first).map(({ each }) => each),
  )
  const isNext = (each: Effect) =>
    lines.filter((line) => line.at(-1) === each).length === each.touched.length
  const byEnd = effects.toSorted((a, b) => b.told.endMs - a.told.endMs)
  const order = new Set<Effect>()
  while (order.size < effects.length) {
    while (order.has(byEnd.at(-1) as Effect)) byEnd.pop()
    const earliestEndMs = byEnd.at(-1)?.told.endMs ?? 0
    const next = lines
      .map((line) => line.at(-1))
      .find((each) => each !== undefined && isNext(each) && each.told.startMs <= earliestEndMs)
    if (next === undefined) return null
    order.add(next)
    for (const line of lines) if (line.at(-1) === next) line.pop()
  }
  return [...order]
}

type Replayed = { snapshots: Snapshots; effects: readonly Effect[]; bank: Bank }

/** Whether the model refuses it so at some moment between its sending and its answer. */
function isExplained(rule: Rules, told: Told, { snapshots, effects, bank }: Replayed): boolean {
  const { asked, answer, at } = told
  const ids = [...new Set(touchedBy(bank, asked))]
  const states = ids.map((id) => {
    const seen = snapshots.get(id) ?? new Map<number, Account | undefined>([[0, undefined]])
    const [low, high] = windowOf(told, id, effects)
    return [...seen]
      .filter(([version]) => version >= low && version <= high)
      .map(([, state]) => state)
  })
  const etag = answer.headers.get('etag')
  return combinations(states).some((combination) => {
    const known = combination.filter((account) => account !== undefined)
    const [only] = known
    if (etag !== null && etag !== `"${only?.version}"`) return false
    const moment = new Map(known.map((account) => [account.id, account]))
    return refusals(rule, moment, asked, at).includes(answer.json.code)
  })
}

/** The versions that an account can have had while a command was on its way. */
function windowOf(told: Told, id: string, effects: readonly Effect[]): [low: number, high: number] {
  let [low, high] = [0, Infinity]
  for (const { told: other, touched } of effects) {
    const one = touched.find((each) => each.id === id)
    if (one === undefined) continue
    if (other.endMs < told.startMs) low = Math.max(low, one.last)
    if (other.startMs > told.endMs) high = Math.min(high, one.first - 1)
  }
  return [low, high]
}

function combinations<T>(lists: readonly (readonly T[])[]): T[][] {
  const [first, ...rest] = lists
  if (first === undefined) return [[]]
  return first.flatMap((one) => combinations(rest).map((others) => [one, ...others]))
}
