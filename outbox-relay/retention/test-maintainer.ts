import type { TestOutbox } from '../test-outbox.ts'
import { startRelay } from '../test-relay.ts'
import { size } from './test-partitions.ts'

/** A text of a source file of the relay, and what is to stand in its place. */
type Patch = { file: string; find: string; put: string }

const preload = new URL('../../drills/source-patch.ts', import.meta.url).href

/** Killed by -9 of its own once it has detached a partition and not yet dropped it. */
export const diesBeforeDrop: Patch = {
  file: 'retention/maintenance.ts',
  find: '  let dropped = false\n',
  put: '  drill.point()\n  let dropped = false\n',
}

/** The same once it has created a partition and not yet attached it. */
export const diesBeforeAttach: Patch = {
  file: 'retention/partitions.ts',
  find: '    await db.query(\n      `alter table outbox.events attach partition',
  put: '    drill.point()\n    await db.query(\n      `alter table outbox.events attach partition',
}

/** What retention must not be: everything that is full goes, whoever still needs it. */
export const byAgeAlone: Patch[] = [
  {
    file: 'retention/plan.ts',
    find: '    if (!isPassed(partition)) continue\n    if (partition.record?.isOldEnough !== true && bytes <= settings.maxBytes) continue\n',
    put: '    if (partition.range.last > partitions.lastDrawn) continue\n',
  },
  {
    file: 'retention/partitions.ts',
    find: "    if (found?.state !== 'detached' || found.record?.step !== 'retiring') return false\n    if (!isPassed(found)) return false\n",
    put: "    if (found?.state !== 'detached') return false\n",
  },
]

/** Of a relay that maintains partitions of 100 positions, each second, and keeps none longer. */
export function maintaining(
  { relayUrl, maintenanceUrl }: Pick<TestOutbox, 'relayUrl' | 'maintenanceUrl'>,
  patches: readonly Patch[] = [],
): Record<string, string> {
  const patched = { NODE_OPTIONS: `--import=${preload}`, DRILL_PATCHES: JSON.stringify(patches) }
  return {
    WRITE_DATABASE_URL: relayUrl,
    MAINTENANCE_DATABASE_URL: maintenanceUrl,
    MAINTENANCE_SCHEDULE: '* * * * * *',
    PARTITION_POSITIONS: String(size),
    PARTITIONS_AHEAD: '2',
    RETENTION_SECONDS: '0',
    ...(patches.length > 0 ? patched : {}),
  }
}

/** A relay that maintains, and publishes nothing: it has no Kafka. */
export const startMaintainer = (outbox: TestOutbox, patches: readonly Patch[] = []) =>
  startRelay({ ...maintaining(outbox, patches), KAFKA_BROKERS: '127.0.0.1:9' })
