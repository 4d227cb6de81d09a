import { findJava, waitUntil } from 'local-stack'
import { pause } from 'service/backoff'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readQuarantined } from './quarantine-log.ts'
import { seededRandom } from './random.ts'
import { drained } from './recovery.ts'
import type { ServiceProcess } from './service-process.ts'
import { ask } from './sql.ts'
import { DrillStack, topic } from './stack.ts'
import { TokenReads } from './token-reads.ts'
import { judges } from './token-judges.ts'
import { topicEnds } from './topic-reader.ts'

// No read is older than its token unless it says so: every read model, at two replicas, while writers
// read what they have just written, and the projections are held up, change owners, and pass over
// events, which brings accounts into quarantine.

const readModels =
  'accounts,statements,tiers,totals,dashboard,transfers,holds,search,risk,notifications'
const random = seededRandom(20_261_122)

describe.skipIf('missing' in findJava(process.env))('reads with a token', () => {
  let stack: DrillStack
  let replicas: ServiceProcess[]
  beforeAll(async () => {
    const environment = { 'query-api': { PROJECTIONS: readModels } }
    stack = await DrillStack.start({ environment })
    replicas = [stack.services['query-api'], await stack.add('query-api', 'second-query-api')]
  }, 120_000)
  afterAll(() => stack[Symbol.asyncDispose]())

  const tokenReads = () =>
    new TokenReads({
      commandUrl: stack.commandUrl,
      queryUrls: replicas.map(({ url }) => url),
      random: random.fork(),
    })

  test('are never older than it, unless they say so, whatever holds the projections up', async () => {
    const reads = tokenReads()
    reads.start()
    for (let round = 0; round < 3; round += 1) {
      await holdUp(stack, 5_000)
      await replicas[1]!.killHard()
      await holdUp(stack, 5_000)
      await passOver(stack, replicas)
      await holdUp(stack, 5_000)
    }
    await quarantineIsEmpty(stack)
    await holdUp(stack, 1_000)
    await reads.finish()
    for (const [what, tally] of reads.tallies) {
      process.stdout.write(`${what}: ${JSON.stringify(tally)}\n`)
    }
    expect(reads.older.slice(0, 3)).toEqual([])
    expect([...reads.bare]).toEqual([])
    // Both kinds of answer, of every read and at both replicas, or nothing was shown.
    expect([...reads.tallies.keys()].toSorted()).toEqual(Object.keys(judges).toSorted())
    for (const [what, { fresh, stale }] of reads.tallies) {
      expect([what, fresh > 0, stale > 0]).toEqual([what, true, true])
    }
    expect(reads.freshAt.size).toBe(2)
    const labels = replicas.map(({ label }) => stack.logFile(label))
    expect(labels.flatMap(readQuarantined).length).toBeGreaterThan(0)
  }, 300_000)

  test('control: a freshness that always says fresh is caught on every read', async () => {
    for (const replica of replicas) {
      replica.patchAlways([alwaysFresh])
      await replica.restart()
      await replica.answers()
    }
    const reads = tokenReads()
    reads.start()
    await holdUp(stack, 6_000)
    await reads.finish()
    const caught = new Set(reads.older.map(({ what }) => what))
    expect([...caught].toSorted()).toEqual(Object.keys(judges).toSorted())
  }, 120_000)
})

const alwaysFresh = {
  file: 'query-api/freshness.ts',
  find: 'const lags = await watch.lagsOf({ token, waitMs: waitSeconds * 1_000, hangUp })',
  put: 'const lags: Lag[] = []',
}

/** Now one read model and now another cannot be written to, half of the time. */
async function holdUp({ readUrl }: DrillStack, ms: number): Promise<void> {
  const tables = await ask<{ name: string }>(
    readUrl,
    `select schemaname || '.' || tablename as name from pg_tables
      where schemaname = 'read' and (tablename = 'accounts' or tablename like '%\\_heads')`,
  )
  for (const until = performance.now() + ms; performance.now() < until;) {
    const { name } = random.pick(tables)
    const seconds = random.between(100, 600) / 1_000
    await ask(
      readUrl,
      `begin; lock table ${name} in share mode; select pg_sleep(${seconds}); commit`,
    )
    await pause(random.between(50, 400))
  }
}

/** What was written while both sleep is passed over by every projection. */
async function passOver(stack: DrillStack, replicas: readonly ServiceProcess[]): Promise<void> {
  for (const replica of replicas) replica.kill('SIGSTOP')
  try {
    // Each writer has written once more by now, and waits for its reads.
    await pause(300)
    await drained(stack, 20_000)
    const ends = [...(await topicEnds(stack.brokers, topic))]
    await ask(
      stack.readUrl,
      `update read.offsets o set next_offset = l.high
         from unnest($1::int[], $2::bigint[]) as l(partition, high)
        where o.partition = l.partition and o.topic = $3 and o.next_offset < l.high`,
      [ends.map(([partition]) => partition), ends.map(([, high]) => high), topic],
    )
  } finally {
    for (const replica of replicas) replica.kill('SIGCONT')
  }
}

function quarantineIsEmpty({ readUrl }: DrillStack): Promise<boolean> {
  return waitUntil(
    async () => (await ask(readUrl, 'select from read.quarantine limit 1')).length === 0,
    { what: 'every account to be out of quarantine', deadlineMs: 60_000, intervalMs: 100 },
  )
}
