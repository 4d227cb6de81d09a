import type { Finding } from './findings.ts'
import type { OutboxRow, SavedProgress } from './tables.ts'
import type { TopicRecord } from './topic-reader.ts'

// I1, I2, I3 and I9: committed rows against records. Headers are read by their names, as any
// consumer on earth would; nothing of the product's own encoding or decoding is used.

/** Progress as it was saved, read at `atMs` of the machine's clock. */
export type ProgressSample = SavedProgress & { atMs: number }

/** When a record that was there was appended once more, by the broker's clock. */
export type Repeat = { position: bigint; firstMs: number; atMs: number }

export type DeliveryFigures = {
  committed: number
  delivered: number
  repeated: number
  lost: number
  phantom: number
  outOfOrder: number
  repeats: Repeat[]
}

export type DeliveryInput = {
  topic: string
  outbox: readonly OutboxRow[]
  /** Per partition in offset order. */
  records: readonly TopicRecord[]
  samples: readonly ProgressSample[]
  /** Accounts whose rows may be held by the relay where progress is beyond them. */
  parked: ReadonlySet<string>
}

export function checkDelivery(input: DeliveryInput): {
  findings: Finding[]
  figures: DeliveryFigures
} {
  const { outbox, records, samples, parked } = input
  const findings: Finding[] = []
  const rows = new Map(outbox.map((row) => [row.id, row]))
  const firsts = new Map<string, TopicRecord>()
  const repeats: Repeat[] = []
  let phantom = 0
  for (const record of records) {
    const id = headerOf(record, 'id')
    const row = id === null ? undefined : rows.get(id)
    const problem = row === undefined ? 'no committed row has its id' : mismatch(record, row)
    if (problem !== undefined) {
      phantom += 1
      findings.push({ promise: 'I2', what: `${placeOf(record)}: ${problem}` })
    }
    if (row === undefined) continue
    const first = firsts.get(row.id)
    if (first === undefined) firsts.set(row.id, record)
    else {
      const position = BigInt(row.position)
      repeats.push({ position, firstMs: first.appendedMs, atMs: record.appendedMs })
    }
  }
  const lost = outbox.filter((row) => !firsts.has(row.id))
  for (const row of lost) {
    const what = `position ${row.position} (${row.aggregateid} version ${row.aggregateversion}) is not in ${input.topic}`
    findings.push({ promise: 'I1', what })
  }
  const disorder = orderFindings(records, rows)
  const sentAtOnce = outbox.filter((row) => !parked.has(row.aggregateid))
  findings.push(...disorder, ...progressFindings(samples, sentAtOnce, firsts))
  const figures = {
    committed: outbox.length,
    delivered: firsts.size,
    repeated: repeats.length,
    lost: lost.length,
    phantom,
    outOfOrder: disorder.length,
    repeats,
  }
  return { findings, figures }
}

/** What of a record is not as its row says. */
function mismatch(record: TopicRecord, row: OutboxRow): string | undefined {
  const expected: [string, string][] = [
    ['id', row.id],
    ['ce_type', row.type],
    ['ce_sequence', row.aggregateversion],
    ['ce_time', row.time],
    ['ce_source', row.source],
    ['ce_specversion', row.specversion],
    ['ce_id', row.id],
    ['ce_correlationid', row.correlationid],
    ['ce_causationid', row.causationid],
    ['traceparent', row.traceparent],
    ['content-type', 'application/json'],
  ]
  if (record.headers.length !== expected.length) return `it has ${record.headers.length} headers`
  for (const [at, [name, value]] of expected.entries()) {
    const [foundName, found] = record.headers[at] ?? ['', null]
    if (foundName !== name) return `header ${at} is ${foundName}, not ${name}`
    if (found !== value) return `header ${name} is not the row's`
  }
  if (record.key !== row.aggregateid) return "its key is not the row's"
  return record.value === row.payload ? undefined : "its value is not the row's, byte for byte"
}

function orderFindings(
  records: readonly TopicRecord[],
  rows: ReadonlyMap<string, OutboxRow>,
): Finding[] {
  const findings: Finding[] = []
  const heads = new Map<string, { partition: number; version: bigint }>()
  const seen = new Set<string>()
  for (const record of records) {
    const id = headerOf(record, 'id') ?? ''
    if (!rows.has(id) || seen.has(id)) continue
    seen.add(id)
    const version = BigInt(headerOf(record, 'ce_sequence') ?? 0)
    const head = heads.get(record.key)
    if (head !== undefined && head.partition !== record.partition) {
      const what = `${record.key} is in partitions ${head.partition} and ${record.partition}`
      findings.push({ promise: 'I3', what })
    } else if (head !== undefined && version <= head.version) {
      const what = `${placeOf(record)}: ${record.key} version ${version} after ${head.version}`
      findings.push({ promise: 'I3', what })
    }
    if (head === undefined || version > head.version) {
      heads.set(record.key, { partition: record.partition, version })
    }
  }
  return findings
}

/** Whatever a sample says is published was in the log by then, or the sample lies. */
function progressFindings(
  samples: readonly ProgressSample[],
  outbox: readonly OutboxRow[],
  firsts: ReadonlyMap<string, TopicRecord>,
): Finding[] {
  const findings: Finding[] = []
  const positions = outbox.map((row) => ({
    position: BigInt(row.position),
    atMs: firsts.get(row.id)?.appendedMs ?? Infinity,
  }))
  for (const { next, gaps, atMs } of samples) {
    // Both clocks are the machine's; the broker's is cut to milliseconds.
    const early = positions.find(
      (each) => each.atMs > atMs + 1 && covers({ next, gaps }, each.position),
    )
    if (early === undefined) continue
    const when = Number.isFinite(early.atMs) ? `${early.atMs - atMs} ms later` : 'never'
    const what = `position ${early.position} was saved as published and reached Kafka ${when}`
    findings.push({ promise: 'I9', what })
  }
  return findings
}

/** Whether it was saved as published. */
export function covers({ next, gaps }: SavedProgress, position: bigint): boolean {
  return position < next && !inGaps(gaps, position)
}

function inGaps(gaps: SavedProgress['gaps'], position: bigint): boolean {
  return gaps.some(([first, last]) => position >= first && position <= last)
}

function headerOf({ headers }: TopicRecord, name: string): string | null {
  return headers.find(([each]) => each === name)?.[1] ?? null
}

function placeOf({ partition, offset }: TopicRecord): string {
  return `partition ${partition} offset ${offset}`
}
