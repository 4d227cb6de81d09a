import { waitUntil } from 'local-stack'
import { pause } from 'service/backoff'
import type { Fault } from './faults.ts'
import { type Harm, unnoticed } from './harm.ts'
import { readQuarantined } from './quarantine-log.ts'
import { ask } from './sql.ts'
import { type DrillStack, topic } from './stack.ts'
import { partitionOf, readTopic, topicEnds, type TopicRecord } from './topic-reader.ts'

// What no crash does and a person, a restore or a bug may: the read side passes over events, or holds
// another history than the write side. Each account has to be noticed, and mended from the feed.

const publishMs = 30_000
const noticeMs = 45_000
const mendMs = 60_000

/** Offsets that were never consumed, `to` not included. */
type Range = { partition: number; from: bigint; to: bigint }

/**
 * Passes over some events of each partition: a gap where others of their accounts follow. Among them is
 * the only one of an account that nobody touches again: a lost tail.
 */
export function skipEvents(): Fault {
  return {
    kind: 'events passed over (gap, lost tail)',
    detail: '3 of each partition, and the only one of an account',
    async inflict(stack, probe) {
      const fromMs = Date.now()
      let lastOne = ''
      let ranges: Range[] = []
      const healedMs = await whileAsleep(stack, async () => {
        lastOne = await probe(publishMs)
        await published(stack, lastOne)
        const ends = await topicEnds(stack.brokers, topic)
        // Behind its log by some events of each partition.
        await pause(1_500)
        ranges = await passOver(stack, { ends, lastOne })
      })
      const records = await readTopic(stack.brokers, topic)
      const { accounts, lost } = passedOver(records, ranges)
      if (!lost.has(lastOne)) throw new Error(`the event of ${lastOne} was not passed over`)
      const codes = ['version_gap', 'lost_tail']
      const harm = { accounts, mustNotice: lost, codes, fromMs, untilMs: Infinity }
      await noticedAndMended(stack, harm)
      return healedMs
    },
  }
}

/** Rows of another history: what they applied last has their version and another id. */
export function contradictRows(): Fault {
  return {
    kind: 'read model of another history (conflict)',
    detail: 'ten accounts, and each partition read again from 400 records before',
    async inflict(stack) {
      const fromMs = Date.now()
      let changed: { id: string }[] = []
      const healedMs = await whileAsleep(stack, async () => {
        // Those that changed last: their last events are among what is read again.
        changed = await ask<{ id: string }>(
          stack.readUrl,
          `update read.accounts set last_event_id = gen_random_uuid()
            where id in (select id from read.accounts order by as_of desc limit 10) returning id`,
        )
        await ask(
          stack.readUrl,
          'update read.offsets set next_offset = greatest(0, next_offset - 400)',
        )
      })
      const accounts = new Set(changed.map(({ id }) => id))
      const codes = ['version_conflict']
      const harm = { accounts, mustNotice: accounts, codes, fromMs, untilMs: Infinity }
      await noticedAndMended(stack, harm)
      return healedMs
    },
  }
}

/** Gives when it was awake again, in monotonic milliseconds. */
async function whileAsleep(stack: DrillStack, harm: () => Promise<void>): Promise<number> {
  const service = stack.services['query-api']
  // Asleep, so that what is done to its rows is done at once.
  service.kill('SIGSTOP')
  try {
    await harm()
  } finally {
    service.kill('SIGCONT')
  }
  return performance.now()
}

function published({ writeUrl }: DrillStack, account: string): Promise<unknown> {
  return waitUntil(
    async () => {
      const rows = await ask(
        writeUrl,
        `select from outbox.relay where next_position >
          all (select position from outbox.events where aggregateid = $1)`,
        [account],
      )
      return rows.length > 0
    },
    { what: `the event of ${account} to be published`, deadlineMs: publishMs, intervalMs: 20 },
  )
}

/** `ends` is where the log ended right after the last one was published. */
async function passOver(
  { brokers, readUrl }: DrillStack,
  { ends, lastOne }: { ends: ReadonlyMap<number, bigint>; lastOne: string },
): Promise<Range[]> {
  const own = await partitionOf(brokers, topic, lastOne)
  const now = [...(await topicEnds(brokers, topic))]
  const moved = await ask<{ partition: number; from: string; to: string }>(
    readUrl,
    `update read.offsets o set next_offset = log.wanted
       from (select o.partition, o.next_offset as before,
               case when o.partition = $3 then $4 else o.next_offset + 3 end as wanted, high
             from read.offsets o join unnest($1::int[], $2::bigint[]) as l(partition, high)
               using (partition)) as log
      where o.partition = log.partition and log.wanted <= log.high and log.wanted > log.before
     returning o.partition, log.before as from, log.wanted as to`,
    [now.map(([partition]) => partition), now.map(([, end]) => end), own, ends.get(own) ?? 0n],
  )
  return moved.map(({ partition, from, to }) => ({ partition, from: BigInt(from), to: BigInt(to) }))
}

/**
 * Accounts of which something was passed over, and of those the ones that lost it by that: an event that
 * is in the log once more, before or after, is applied all the same.
 */
function passedOver(
  records: readonly TopicRecord[],
  ranges: readonly Range[],
): { accounts: ReadonlySet<string>; lost: ReadonlySet<string> } {
  const header = ({ headers }: TopicRecord, name: string) =>
    headers.find(([each]) => each === name)?.[1]
  const skipped: TopicRecord[] = []
  const elsewhere = new Set<unknown>()
  for (const record of records) {
    const { partition, offset } = record
    const isIn = ranges.some(
      (range) => range.partition === partition && offset >= range.from && offset < range.to,
    )
    if (!isIn) elsewhere.add(header(record, 'id'))
    else if (header(record, 'ce_type') !== 'Heartbeat.v1') skipped.push(record)
  }
  const lost = skipped.filter((record) => !elsewhere.has(header(record, 'id')))
  return {
    accounts: new Set(skipped.map(({ key }) => key)),
    lost: new Set(lost.map(({ key }) => key)),
  }
}

async function noticedAndMended(stack: DrillStack, harm: Harm): Promise<void> {
  stack.harms.push(harm)
  const missing = () => unnoticed(harm, readQuarantined(stack.logFile('query-api')))
  await waitUntil(() => missing().length === 0, {
    what: 'query-api to notice what is wrong with its rows',
    deadlineMs: noticeMs,
    intervalMs: 200,
  }).catch((error: Error) => {
    throw new Error(`${error.message}: ${missing().join(', ')}`)
  })
  await waitUntil(
    async () => (await ask(stack.readUrl, 'select from read.quarantine limit 1')).length === 0,
    { what: 'query-api to mend what was wrong', deadlineMs: mendMs, intervalMs: 200 },
  )
  harm.untilMs = Date.now()
}
