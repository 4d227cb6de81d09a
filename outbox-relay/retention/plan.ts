import type { Range } from '../progress.ts'

// What there is to make and to retire, and what somebody has to be told. Pure: `partitions.ts` reads
// and does it.
//
// A partition may go when all of these hold:
//   - every position in it is published by saved progress: below `next`, and no open gap touches it;
//   - every logical slot of the database is confirmed beyond the commits of its rows. Which
//     publication a slot's reader asks for is known to nobody but the reader, so all of them count,
//     lost ones too: a slot that will never move again is a matter for a person;
//   - it has been published for the retention age, or the outbox is larger than it may be.
// It has gone at the moment when it begins to be detached: what steps progress back after that reads
// the partitions that are left, as if it had been dropped a second earlier.

export type Partition = {
  name: string
  /** Null: it is detached, and was not by us. */
  range: Range | null
  /** `pending`: a detach has begun and is to be finished; new statements do not see it any more. */
  state: 'attached' | 'pending' | 'detached'
  bytes: number
  /** Whether saved progress covers every position. */
  published: boolean
  /** Null until it was seen published. */
  record: {
    step: 'kept' | 'retiring' | 'held'
    isOldEnough: boolean
    /** A logical slot that is not confirmed beyond its rows. */
    slotBehind: string | null
  } | null
}

export type Partitions = {
  /** Attached ones in the order of their positions, then the others. */
  all: readonly Partition[]
  /** The last position drawn; 0 when none was. */
  lastDrawn: bigint
}

export type RetentionSettings = {
  /** Of each new partition. */
  positions: bigint
  /** Partitions to have in which no position was drawn yet. */
  ahead: number
  retentionSeconds: number
  maxBytes: number
}

type Attached = Partition & { range: Range }

const isAttached = (partition: Partition): partition is Attached =>
  partition.state === 'attached' && partition.range !== null

/** Partitions without a hole before them in which no position was drawn yet. */
export function aheadOf({ all, lastDrawn }: Partitions): number {
  let free = lastDrawn + 1n
  let ahead = 0
  for (const { range } of all.filter(isAttached)) {
    if (range.last < free) continue
    if (range.first > free) break
    if (range.first > lastDrawn) ahead += 1
    free = range.last + 1n
  }
  return ahead
}

const mostMadeAtOnce = 100

/** The ranges of the partitions to make, after the last one there is. */
export function toMake(partitions: Partitions, settings: RetentionSettings): Range[] {
  const attached = partitions.all.filter(isAttached)
  const end = attached.at(-1)?.range.last
  // Where the first one would begin is not to be guessed.
  if (end === undefined) return []
  const ranges: Range[] = []
  let unused = attached.filter(({ range }) => range.first > partitions.lastDrawn).length
  for (let first = end + 1n; unused < settings.ahead && ranges.length < mostMadeAtOnce;) {
    const last = first + settings.positions - 1n
    ranges.push({ first, last })
    // Positions may have been drawn beyond the last partition, by commands that failed for it.
    if (first > partitions.lastDrawn) unused += 1
    first = last + 1n
  }
  return ranges
}

/** Whether nobody needs its rows any more: saved progress and every slot are beyond them. */
export function isPassed({ published, record }: Partition): boolean {
  return published && record !== null && record.step !== 'held' && record.slotBehind === null
}

/** What is to be retired, oldest first: what was begun, then what is old, or too much. */
export function toRetire(partitions: Partitions, settings: RetentionSettings): Partition[] {
  const retired = partitions.all.filter(
    (each) => each.state !== 'attached' && each.record?.step === 'retiring' && isPassed(each),
  )
  // One at a time can be pending: beside somebody else's the server refuses another.
  if (partitions.all.some((each) => each.state === 'pending' && !retired.includes(each))) {
    return retired
  }
  let bytes = sizeOf(partitions)
  for (const partition of retired) bytes -= partition.bytes
  for (const partition of partitions.all.filter(isAttached)) {
    if (!isPassed(partition)) continue
    if (partition.record?.isOldEnough !== true && bytes <= settings.maxBytes) continue
    retired.push(partition)
    bytes -= partition.bytes
  }
  return retired
}

/** Detached by us, and not published any more by the progress that is saved now. */
export function toHold({ all }: Partitions): Partition[] {
  return all.filter(
    ({ state, published, record }) =>
      state !== 'attached' && record?.step === 'retiring' && !published,
  )
}

export function sizeOf({ all }: Partitions): number {
  return all.reduce((sum, { bytes }) => sum + bytes, 0)
}

/** Why the oldest published partition is still there; null when nothing is published or it may go. */
export function waitingFor(partitions: Partitions, settings: RetentionSettings): string | null {
  const begun = partitions.all.find(({ state }) => state === 'pending')
  if (begun?.record?.step === 'retiring' && isPassed(begun)) {
    return `${begun.name}: a transaction that uses outbox.events is open`
  }
  const oldest = partitions.all.find((each) => each.record !== null)
  if (oldest === undefined || oldest.record === null) return null
  const { name, published, record } = oldest
  if (!published) return `${name}: progress has stepped back into it`
  if (record.slotBehind !== null) return `${name}: slot ${record.slotBehind} has not passed it`
  if (record.isOldEnough || sizeOf(partitions) > settings.maxBytes) return null
  return `${name}: younger than ${settings.retentionSeconds} s`
}

export type Alarm = { code: AlarmCode; isCritical: boolean; text: string }
type AlarmCode = 'partitions_few' | 'outbox_large' | 'partition_apart'

/** What a person has to know of. Critical: commands are about to fail, or rows are out of reach. */
export function alarmsOf(partitions: Partitions, settings: RetentionSettings): Alarm[] {
  return [
    ...fewAhead(partitions, settings),
    ...tooLarge(partitions, settings),
    ...apart(partitions),
  ]
}

function fewAhead(partitions: Partitions, settings: RetentionSettings): Alarm[] {
  const ahead = aheadOf(partitions)
  if (ahead * 2 >= settings.ahead) return []
  const text =
    `${ahead} partitions of outbox.events lie ahead of position ${partitions.lastDrawn}, of ` +
    `${settings.ahead}: when none is left every command fails. Is MAINTENANCE_DATABASE_URL set, ` +
    'and what does the log say of maintenance?'
  return [{ code: 'partitions_few', isCritical: ahead === 0, text }]
}

function tooLarge(partitions: Partitions, settings: RetentionSettings): Alarm[] {
  const bytes = sizeOf(partitions)
  if (bytes <= settings.maxBytes) return []
  const why = waitingFor(partitions, settings) ?? 'no more of it is published'
  const text = `outbox.events has ${bytes} bytes, more than ${settings.maxBytes}, and keeps them: ${why}`
  return [{ code: 'outbox_large', isCritical: false, text }]
}

function apart({ all }: Partitions): Alarm[] {
  return all.flatMap(({ name, state, published, record, range }): Alarm[] => {
    if (state === 'attached' || (record?.step === 'retiring' && published)) return []
    const bounds =
      range === null ? 'its range' : `for values from (${range.first}) to (${range.last + 1n})`
    const text =
      `outbox.${name} is ${state === 'pending' ? 'being detached' : 'detached'}, and is not ours to ` +
      'drop: no relay sees its rows. Attach it again (alter table outbox.events attach partition ' +
      `outbox.${name} ${bounds}) and set next_position of outbox.relay to its first position with ` +
      'all relays stopped, or drop it, if its rows are in Kafka'
    // A relay may have passed over rows of a held one, and called them published.
    const isCritical = !published || record?.step === 'held'
    return [{ code: 'partition_apart', isCritical, text }]
  })
}
