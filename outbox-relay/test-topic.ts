import { partitionOf } from 'kafka/partition'
import type { DumpedRecord } from 'kafka/topic-dump'

// What a topic holds, held against what was committed, whichever mode sent it.

/** An event as its row has it. */
export type CommittedEvent = { id: string; aggregateId: string; version: number }

export type TopicFindings = {
  /** Committed and not in the topic. */
  lost: number
  /** In the topic and not committed. */
  phantom: number
  /** Arrived, for the first time, after a later version of its aggregate. */
  outOfOrder: number
  /** In another partition than its key belongs to. */
  misplaced: number
  /** Arrived again with other bytes than the first time. */
  changed: number
  /** Arrived again. The only one of these that is allowed. */
  repeated: number
}

/** What a topic is when every promise is kept. */
export const kept = { lost: 0, phantom: 0, outOfOrder: 0, misplaced: 0, changed: 0 }

/** `dump` is in offset order within each partition. */
export function findingsIn(
  dump: readonly DumpedRecord[],
  committed: readonly CommittedEvent[],
  partitions: number,
): TopicFindings {
  const expected = new Map(committed.map((event) => [event.id, event]))
  const first = new Map<string, string>()
  const highest = new Map<string, number>()
  const found: TopicFindings = { ...kept, repeated: 0 }
  for (const record of dump) {
    if (record.partition !== partitionOf(record.key, partitions)) found.misplaced += 1
    const id = headerOf(record, 'id')
    const bytes = JSON.stringify([record.partition, record.key, record.value, record.headers])
    const before = first.get(id)
    if (before !== undefined) {
      found.repeated += 1
      if (before !== bytes) found.changed += 1
      continue
    }
    first.set(id, bytes)
    const event = expected.get(id)
    const version = Number(headerOf(record, 'ce_sequence'))
    if (event?.aggregateId !== record.key || event.version !== version) found.phantom += 1
    if (version < (highest.get(record.key) ?? 0)) found.outOfOrder += 1
    else highest.set(record.key, version)
  }
  found.lost = committed.filter(({ id }) => !first.has(id)).length
  return found
}

export function headerOf({ headers }: DumpedRecord, name: string): string {
  return headers.find(([each]) => each === name)?.[1] ?? ''
}
