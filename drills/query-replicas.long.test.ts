import { findJava, waitUntil } from 'local-stack'
import { pause } from 'service/backoff'
import { expect, test } from 'vitest'
import { seededRandom } from './random.ts'
import { consumed } from './recovery.ts'
import type { ServiceProcess } from './service-process.ts'
import { ask } from './sql.ts'
import { DrillStack, topic } from './stack.ts'
import { TokenReads } from './token-reads.ts'
import { underLoad } from './under-load.ts'

// Two processes of query-api share the partitions of each projection. One is killed and comes back, then
// the other: every view is what the write side's events make it, and a token is good at both.

const projections = [
  'accounts',
  'statements',
  'tiers',
  'totals',
  'dashboard',
  'transfers',
  'holds',
  'search',
]
const readingMs = 4_000

test.skipIf('missing' in findJava(process.env))(
  'of two replicas one may be killed and come back under load: views are the fold, tokens hold at both',
  async () => {
    const environment = { 'query-api': { PROJECTIONS: projections.join(',') } }
    await using stack = await DrillStack.start({ environment })
    const replicas = [stack.services['query-api'], await stack.add('query-api', 'second-query-api')]
    const reads = new TokenReads({
      commandUrl: stack.commandUrl,
      queryUrls: replicas.map(({ url }) => url),
      random: seededRandom(2),
      currencies: ['USD', 'GBP', 'CHF', 'SEK'],
    })
    const load = { seed: 20_261_122, commandsPerSecond: 50, say: () => {} }
    const { verdict } = await underLoad(stack, load, async ({ history }) => {
      reads.start()
      for (const replica of replicas) {
        await shared(replicas, 2)
        await pause(readingMs)
        await replica.killForGood()
        await shared(
          replicas.filter((other) => other !== replica),
          1,
        )
        await pause(readingMs)
        await replica.start()
      }
      await shared(replicas, 2)
      await pause(readingMs)
      await reads.finish()
      history.push(...reads.history)
    })
    process.stdout.write(`reads: ${JSON.stringify([...reads.tallies])}\n`)
    expect(verdict.findings).toEqual([])
    expect(reads.older).toEqual([])
    expect([...reads.freshAt.values()].every((count) => count > 20)).toBe(true)
    expect(reads.freshAt.size).toBe(2)
    await consumed(stack, topic, 30_000)
    const [written, inTotals, inTiers, lines] = await Promise.all([
      ask(
        stack.writeUrl,
        `select currency, sum(ledger_balance)::text as money, count(*)::text as accounts
           from ledger.accounts group by 1 order by 1`,
      ),
      ask(
        stack.readUrl,
        `select currency, sum(ledger_balance)::text as money, sum(accounts)::text as accounts
           from read.totals_tallies group by 1 order by 1`,
      ),
      ask(
        stack.readUrl,
        `select currency, sum(total)::text as money, sum(accounts)::text as accounts
           from read.tiers_tallies group by 1 order by 1`,
      ),
      ask(
        stack.readUrl,
        `select a.currency, sum(l.amount)::text as money, count(distinct a.id)::text as accounts
           from read.accounts a left join read.statement_lines l on l.account_id = a.id
          group by 1 order by 1`,
      ),
    ])
    expect({ inTotals, inTiers, lines }).toEqual({
      inTotals: written,
      inTiers: written,
      lines: written,
    })
  },
  300_000,
)

/** Resolves once these processes have each partition of each projection between them, each process some. */
function shared(replicas: readonly ServiceProcess[], among: number): Promise<boolean> {
  const isShared = (owned: readonly number[][]) =>
    owned.length === among &&
    owned.every((own) => own.length > 0) &&
    owned
      .flat()
      .toSorted((a, b) => a - b)
      .join() === everyPartition
  return waitUntil(
    async () => {
      const reports = await Promise.all(replicas.map(({ url }) => reportsOf(url)))
      return reports[0]!.every(({ name }) =>
        isShared(reports.map((report) => ownedIn(report.find((each) => each.name === name)!))),
      )
    },
    { what: `${among} to share all partitions`, deadlineMs: 60_000, intervalMs: 200 },
  )
}

const everyPartition = Array.from({ length: 12 }, (_, partition) => partition).join()

type Report = { name: string; state: string; partitions: { partition: number; state: string }[] }

async function reportsOf(url: string): Promise<Report[]> {
  const { items } = (await (await fetch(`${url}/projections`)).json()) as { items: Report[] }
  return items.filter(({ name }) => projections.includes(name))
}

const ownedIn = ({ partitions }: Report): number[] =>
  partitions.filter(({ state }) => state === 'running').map(({ partition }) => partition)
