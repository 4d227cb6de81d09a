// A story as it comes when events were lost, cannot be read, or were others first.
import { eventSchemas } from 'command-api/events'
import type { OutboxRow } from 'outbox-relay/wire'
import { drawsOf, strayEvent } from './test-story.ts'

/** What is delivered, and the accounts that something happened to. */
export type Harmed = { rows: OutboxRow[]; accounts: ReadonlySet<string> }

/** What comes instead of one version of an account. */
type Harm = { account: string; version: number; instead: (row: OutboxRow) => readonly OutboxRow[] }

function harmed(story: readonly OutboxRow[], harms: readonly Harm[]): Harmed {
  const byAccount = new Map(harms.map((harm) => [harm.account, harm]))
  const rows = story.flatMap((row) => {
    const harm = byAccount.get(row[3])
    return harm === undefined || Number(row[4]) !== harm.version ? [row] : harm.instead(row)
  })
  return { rows, accounts: new Set(byAccount.keys()) }
}

const idsIn = (story: readonly OutboxRow[]) => [...new Set(story.map((row) => row[3]))]

/** Versions that are neither an account's first nor its last. */
function middlesOf(story: readonly OutboxRow[], seed: number): (account: string) => number {
  const draw = drawsOf(seed)
  return (account) => 2 + draw(story.filter((row) => row[3] === account).length - 2)
}

/** Of nine accounts an event is missing, or cannot be read. */
export function withGaps(story: readonly OutboxRow[], seed: number): Harmed {
  const middleOf = middlesOf(story, seed)
  const unreadable = (row: OutboxRow) => [row.with(5, 'Tomorrow.v9') as unknown as OutboxRow]
  return harmed(
    story,
    idsIn(story)
      .slice(0, 9)
      .map((account, index) => {
        const instead = index % 3 === 0 ? unreadable : () => []
        return { account, version: middleOf(account), instead }
      }),
  )
}

/** Of three accounts the last event is missing, and of the fourth all of them. */
export function withLostTails(story: readonly OutboxRow[]): Harmed {
  const [whole, ...others] = idsIn(story).slice(-4) as [string, ...string[]]
  const last = new Map(story.map((row) => [row[3], row]))
  const lost = new Set(others.map((account) => last.get(account)))
  const rows = story.filter((row) => row[3] !== whole && !lost.has(row))
  return { rows, accounts: new Set([whole, ...others]) }
}

/**
 * Accounts with another history first, which then turns out not to be theirs: an event of each type,
 * three in a row; and one whose history is contradicted after it was right.
 */
export function withOtherHistories(story: readonly OutboxRow[], seed: number): Harmed {
  const middleOf = middlesOf(story, seed)
  const ids = idsIn(story)
  const stray = (type: string, account: string, version: number) => {
    const like = story.find((row) => row[5] === type && row[3] !== account)!
    return strayEvent(like, { account, version, before: story })
  }
  const types = Object.keys(eventSchemas())
  const harms = types.map((type, index): Harm => {
    const account = ids[index]!
    const version = type === 'AccountOpened.v1' ? 1 : middleOf(account)
    return { account, version, instead: (row) => [stray(type, account, version), row] }
  })
  const [three, late] = ids.slice(types.length) as [string, string]
  const inARow = ['HoldPlaced.v1', 'FundsTransferredOut.v1', 'FundsWithdrawn.v1']
  harms.push({
    account: three,
    version: 3,
    instead: (row) => [...inARow.map((type, index) => stray(type, three, 3 + index)), row],
  })
  const version = middleOf(late)
  const instead = (row: OutboxRow) => [row, stray('FundsDeposited.v1', late, version)]
  return harmed(story, [...harms, { account: late, version, instead }])
}
