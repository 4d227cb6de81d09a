import { connect, type Session, type testOutbox } from '../test-outbox.ts'
import { maintain, maintenanceSession, type Run } from './maintenance.ts'
import { makePartition, readPartitions } from './partitions.ts'
import type { Partitions, RetentionSettings } from './plan.ts'

// An outbox whose partitions have 100 positions each, so that a test fills some.

export const size = 100

/** Nothing is too young and nothing too large. */
export const atOnce: RetentionSettings = {
  positions: BigInt(size),
  ahead: 2,
  retentionSeconds: 0,
  maxBytes: Number.MAX_SAFE_INTEGER,
}

type Place = Pick<Awaited<ReturnType<typeof testOutbox>>, 'superuserUrl' | 'maintenanceUrl'>

/** Puts five small partitions in the place of those that migrate makes. */
export async function makeSmall({ maintenanceUrl }: Place): Promise<void> {
  await using session = await connect(maintenanceUrl, maintenanceSession)
  const { all } = await readPartitions(session.client, 0)
  for (const { name } of all) {
    await session.sql(`alter table outbox.events detach partition outbox.${name}`)
    await session.sql(`drop table outbox.${name}`)
  }
  for (let first = 1; first <= 401; first += size) {
    await makePartition(session.client, { first: BigInt(first), last: BigInt(first + size - 1) })
  }
}

/** One statement of the command side: `count` events of one account each. */
export async function fill(writer: Session, count: number, aggregateType = 'account') {
  const events = Array.from({ length: count }, (_, n) => ({
    aggregateId: `a-${n % 10}`,
    version: Math.floor(n / 10) + 1,
    aggregateType,
  }))
  return writer.insert(...events)
}

/** Progress as a relay saves it. */
export const publishTo = (superuser: Session, next: number) =>
  superuser.sql(`update outbox.relay set next_position = ${next}`)

/** One run of maintenance that nobody disputes. */
export async function maintainOnce(
  { maintenanceUrl }: Place,
  settings: Partial<RetentionSettings> = {},
): Promise<Run> {
  await using session = await connect(maintenanceUrl, maintenanceSession)
  return await maintain({
    db: session.client,
    settings: { ...atOnce, ...settings },
    assertElected: async () => {},
    signal: new AbortController().signal,
  })
}

export async function partitionsOf({ maintenanceUrl }: Place): Promise<Partitions> {
  await using session = await connect(maintenanceUrl)
  return await readPartitions(session.client, 0)
}

/** Of each partition its first position and, when it is not attached, how it is. */
export async function namesOf(place: Place): Promise<string[]> {
  const { all } = await partitionsOf(place)
  return all.map(({ name, state }) => {
    const first = Number(name.replace('events_', ''))
    return state === 'attached' ? String(first) : `${first} ${state}`
  })
}
