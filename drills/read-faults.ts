import { waitUntil } from 'local-stack'
import { pause } from 'service/backoff'
import type { Fault } from './faults.ts'
import { readQuarantined } from './quarantine-log.ts'
import { ask } from './sql.ts'
import { type DrillStack, topic } from './stack.ts'
import { topicEnds } from './topic-reader.ts'

// What no crash does and a person, a restore or a bug may: the read side passes over events, or holds
// another history than the write side. Each has to be noticed, and mended from the feed.

const noticeMs = 30_000
const mendMs = 60_000

/** Events that come before others of their accounts are gaps; an account's last one is a lost tail. */
export function skipEvents(): Fault {
  return {
    kind: 'events passed over (gap, lost tail)',
    detail: '3 of each partition',
    inflict: (stack) =>
      noticedAndMended(stack, async () => {
        const ends = [...(await topicEnds(stack.brokers, topic))]
        const moved = await ask<{ partition: number; to: string }>(
          stack.readUrl,
          `update read.offsets o set next_offset = o.next_offset + 3
             from unnest($1::int[], $2::bigint[]) as log(partition, high)
            where o.partition = log.partition and o.next_offset + 3 <= log.high
           returning o.partition, o.next_offset as to`,
          [ends.map(([partition]) => partition), ends.map(([, end]) => end)],
        )
        for (const { partition, to } of moved) {
          stack.harmed.passedOver.push({ partition, from: BigInt(to) - 3n, to: BigInt(to) })
        }
      }),
  }
}

/** Rows of another history: what they applied last has their version and another id. */
export function contradictRows(): Fault {
  return {
    kind: 'read model of another history (conflict)',
    detail: 'ten accounts, and each partition read again from 40 records before',
    inflict: (stack) =>
      noticedAndMended(stack, async () => {
        // Those that changed last: their last events are among what is read again.
        const changed = await ask<{ id: string }>(
          stack.readUrl,
          `update read.accounts set last_event_id = gen_random_uuid()
            where id in (select id from read.accounts order by as_of desc limit 10) returning id`,
        )
        stack.harmed.accounts.push(...changed.map(({ id }) => id))
        await ask(
          stack.readUrl,
          'update read.offsets set next_offset = greatest(0, next_offset - 40)',
        )
      }),
  }
}

async function noticedAndMended(stack: DrillStack, harm: () => Promise<void>): Promise<void> {
  const service = stack.services['query-api']
  const noticed = () => readQuarantined(stack.logFile('query-api')).length
  const before = noticed()
  // Asleep, so that it is behind its log, and what is done to its rows is done at once.
  service.kill('SIGSTOP')
  try {
    await pause(1_500)
    await harm()
  } finally {
    service.kill('SIGCONT')
  }
  await waitUntil(() => noticed() > before, {
    what: 'query-api to notice what is wrong with its rows',
    deadlineMs: noticeMs,
  })
  await waitUntil(
    async () => (await ask(stack.readUrl, 'select from read.quarantine limit 1')).length === 0,
    { what: 'query-api to mend what was wrong', deadlineMs: mendMs, intervalMs: 200 },
  )
}
