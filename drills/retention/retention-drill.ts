import { pause } from 'service/backoff'
import type { AtRest } from '../at-rest.ts'
import { slotsOf } from '../left-behind.ts'
import type { Load } from '../load.ts'
import { patchEnvironment } from '../service-process.ts'
import type { SourcePatch } from '../source-patch.ts'
import { DrillStack } from '../stack.ts'
import { Relays } from '../switching/relays.ts'
import type { TopicRecord } from '../topic-reader.ts'
import { underLoad } from '../under-load.ts'
import { becomes, lookAt, makeSmall, positions, type Queue } from './outbox.ts'

// The queue is to stay bounded, and nothing is to leave it that somebody needs: not what is unpublished,
// and not what a real slot, of the log's reader or of a connector, has not passed. Nothing is kept for its
// age here, so that only this keeps it.

type Options = {
  seed: number
  folder: string | undefined
  only: string | undefined
  say: (line: string) => void
}

/** What commands by HTTP took, and how long events took from there to Kafka, in one stretch of time. */
export type Answering = { name: string; fromMs: number; toMs: number }
export type RetentionResult = AtRest & {
  /** What should not have been, as sentences. */
  wrong: string[]
  stretches: Answering[]
  waits: Load['waits']
}

const commandsPerSecond = 300

const relaySettings = {
  MAINTENANCE_SCHEDULE: '* * * * * *',
  PARTITION_POSITIONS: String(positions),
  PARTITIONS_AHEAD: '40',
  RETENTION_SECONDS: '0',
  RELAY_MODE: '',
}

type Drilled = {
  stack: DrillStack
  relays: Relays
  load: Load
  wrong: string[]
  stretches: Answering[]
}

const cases: Readonly<Record<string, (drilled: Drilled) => Promise<void>>> = {
  'nothing is published': keepsUnpublished,
  'the slot of wal lags': (drilled) => keepsForSlot(drilled, 'wal'),
  'the slot of a connector lags': (drilled) => keepsForSlot(drilled, 'debezium'),
  'a transaction is open': answersBesideOpen,
}

/** One after the other, under load; and at rest every promise is checked, by what the ledger has. */
export async function runRetention(options: Options): Promise<RetentionResult> {
  const { only, say } = options
  const chosen = Object.entries(cases).filter(([name]) => name.includes(only ?? ''))
  if (chosen.length === 0) throw new Error(`no case is called ${only}`)
  return withSmallPartitions([], options, async (drilled) => {
    for (const [name, run] of chosen) {
      const before = drilled.wrong.length
      await run(drilled).catch((error: Error) => drilled.wrong.push(error.message))
      const wrong = drilled.wrong.splice(before).map((what) => `${name}: ${what}`)
      drilled.wrong.push(...wrong)
      say([name, ...wrong].join('; '))
    }
    await retiresAll(drilled)
  })
}

/** Unpublished partitions go while Kafka is away. */
export function runByAgeAlone(options: Options): Promise<RetentionResult> {
  return withSmallPartitions(byAgeAlone, options, async ({ stack }) => {
    await stack.kafka.kill()
    const before = await lookAt(stack.writeUrl)
    await becomes(stack.writeUrl, 'unpublished partitions to go', ({ first, next }) => {
      return first > next + 2n * BigInt(positions) && first > before.next
    })
    await stack.kafka.startAgain()
  })
}

/** The product made wrong: whatever is full goes, whoever needs it. */
export const byAgeAlone: readonly SourcePatch[] = [
  {
    file: 'outbox-relay/retention/plan.ts',
    find:
      '    if (!isPassed(partition)) continue\n' +
      '    if (partition.record?.isOldEnough !== true && bytes <= settings.maxBytes) continue\n',
    put: '    if (partition.range.last > partitions.lastDrawn) continue\n',
  },
  {
    file: 'outbox-relay/retention/partitions.ts',
    find:
      "    if (found?.state !== 'detached' || found.record?.step !== 'retiring') return false\n" +
      '    if (!isPassed(found)) return false\n',
    put: "    if (found?.state !== 'detached') return false\n",
  },
]

async function withSmallPartitions(
  patches: readonly SourcePatch[],
  { seed, folder, say }: Options,
  work: (drilled: Drilled) => Promise<void>,
): Promise<RetentionResult> {
  const patched = patches.length > 0 ? patchEnvironment(patches, 0) : {}
  await using stack = await DrillStack.start({
    folder,
    connect: patches.length === 0,
    cdcLine: true,
    environment: { 'outbox-relay': { ...relaySettings, ...patched } },
  })
  await stack.secondRelay.start()
  await makeSmall(stack.writeUrl)
  const relays = new Relays(stack)
  const wrong: string[] = []
  const stretches: Answering[] = []
  const { result, ...atRest } = await underLoad(
    stack,
    { seed, commandsPerSecond, retired: true, say },
    async (load) => {
      await work({ stack, relays, load, wrong, stretches })
      return load.waits
    },
  )
  return { ...atRest, wrong, stretches, waits: result }
}

/** Three partitions and more fill while Kafka is away, and maintenance goes on. */
async function keepsUnpublished({ stack, wrong }: Drilled): Promise<void> {
  await stack.kafka.kill()
  const { next } = await lookAt(stack.writeUrl)
  await becomes(stack.writeUrl, 'three partitions to fill', filledBeyond(next))
  await runsGoOn(stack)
  const queue = await lookAt(stack.writeUrl)
  if (queue.first > queue.next) wrong.push(`${queue.first - queue.next} unpublished rows are gone`)
  await stack.kafka.startAgain()
  await becomes(stack.writeUrl, 'them to go once published', ({ first }) => first > queue.next)
}

/** The line to what reads the log falls silent; polling publishes, and the slot stays where it was. */
async function keepsForSlot(
  { stack, relays, wrong }: Drilled,
  mode: 'wal' | 'debezium',
): Promise<void> {
  await relays.switchTo(mode)
  await relays.arrives(mode)
  stack.cdcLine?.begin({ kind: 'half-open' })
  const { lastDrawn } = await lookAt(stack.writeUrl)
  await relays.switchTo('polling')
  await relays.arrives('polling')
  await becomes(
    stack.writeUrl,
    'three partitions to fill and be published',
    ({ next }) => next > lastDrawn + 3n * BigInt(positions),
  )
  await runsGoOn(stack)
  const slots = await slotsOf(stack.writeUrl)
  const queue = await lookAt(stack.writeUrl)
  if (slots.length === 0) wrong.push('there is no slot any more that could be behind')
  else if (queue.first > lastDrawn) wrong.push(`gone before slot ${slots.join()} had passed it`)
  stack.cdcLine?.heal()
  await becomes(stack.writeUrl, 'what it held to go', ({ first }) => first > lastDrawn)
  if ((await slotsOf(stack.writeUrl)).length > 0) wrong.push('the slot is still there')
}

/** An uncommitted insert holds up every detach; what comes and goes meanwhile is timed. */
async function answersBesideOpen({ stack, load, stretches }: Drilled): Promise<void> {
  const stretch = async (name: string, until: Promise<unknown>) => {
    const fromMs = Date.now()
    await until
    stretches.push({ name, fromMs, toMs: Date.now() })
  }
  await stretch('before', pause(15_000))
  await using held = await load.hold()
  const { first } = await lookAt(stack.writeUrl)
  await stretch('maintained beside an open transaction', pause(15_000))
  await held.commit()
  await becomes(stack.writeUrl, 'retirement to go on', (queue) => queue.first > first)
}

const filledBeyond = (next: bigint) => (queue: Queue) =>
  queue.lastDrawn > next + 4n * BigInt(positions)

/** Some more runs of maintenance have done something. */
async function runsGoOn(stack: DrillStack): Promise<void> {
  const { acts } = await lookAt(stack.writeUrl)
  await becomes(stack.writeUrl, 'maintenance to run', (queue) => queue.acts >= acts + 4)
}

/** All that is full is published and passed: it goes, and little is left. */
async function retiresAll({ stack, wrong }: Drilled): Promise<void> {
  const { lastDrawn, full } = await lookAt(stack.writeUrl)
  await becomes(stack.writeUrl, `${full} full partitions to go`, ({ first }) => first > lastDrawn)
  const queue = await lookAt(stack.writeUrl)
  if (queue.full > 10) wrong.push(`${queue.full} full partitions are kept`)
}

/** Milliseconds from a command to its record in Kafka, by the machine's clock, of each that came in time. */
export function deliveries(records: readonly TopicRecord[], { fromMs, toMs }: Answering): number[] {
  const seen = new Set<string>()
  return records.flatMap(({ headers, appendedMs }) => {
    const header = (name: string) => headers.find(([each]) => each === name)?.[1] ?? ''
    const atMs = Date.parse(header('ce_time'))
    const id = header('id')
    if (seen.has(id) || atMs < fromMs || atMs > toMs) return []
    seen.add(id)
    return [appendedMs - atMs]
  })
}
