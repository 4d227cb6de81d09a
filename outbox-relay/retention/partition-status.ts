import { Counter, Gauge, type Registry } from 'prom-client'
import type { Queryable } from '../text-query.ts'
import type { MaintenanceState, Run } from './maintenance.ts'
import { readPartitions } from './partitions.ts'
import {
  type Alarm,
  aheadOf,
  alarmsOf,
  type Partitions,
  type RetentionSettings,
  sizeOf,
  waitingFor,
} from './plan.ts'

export type PartitionStatus = {
  count: number
  /** In which no position was drawn yet. */
  ahead: number
  bytes: number
  /** The first position that is retained. */
  from: string | null
  /** Why the oldest published partition is kept. */
  waitingFor: string | null
  alarms: Alarm[]
  /** The last run of the process that answers; null when it has done none. */
  lastRun: (Run & { at: string }) | null
}

/** How the outbox's partitions are: from the tables, so the same on every replica but for `lastRun`. */
export type PartitionWatch = {
  status(): Promise<PartitionStatus>
  /** Why this relay is not ready: commands are about to fail, or rows are out of reach. */
  problems(): Promise<string[]>
}

export function watchPartitions(
  db: Queryable,
  settings: RetentionSettings,
  state: MaintenanceState,
): PartitionWatch {
  const read = () => readPartitions(db, settings.retentionSeconds)
  return {
    async status() {
      const partitions = await read()
      const attached = attachedOf(partitions)
      return {
        count: attached.length,
        ahead: aheadOf(partitions),
        bytes: sizeOf(partitions),
        from: attached[0]?.range?.first.toString() ?? null,
        waitingFor: waitingFor(partitions, settings),
        alarms: alarmsOf(partitions, settings),
        lastRun: state.last,
      }
    },
    async problems() {
      const alarms = alarmsOf(await read(), settings)
      return alarms.filter(({ isCritical }) => isCritical).map(({ text }) => text)
    },
  }
}

const attachedOf = ({ all }: Partitions) => all.filter(({ state }) => state === 'attached')

/** Asked of the tables at each scrape; without an answer they stay as they were. */
export function registerPartitionMetrics(
  registry: Registry,
  watch: PartitionWatch,
  state: MaintenanceState,
): void {
  const registers = [registry]
  // All of one scrape are of one reading.
  let reading: Promise<PartitionStatus | undefined> | undefined
  const read = () =>
    (reading ??= watch
      .status()
      .catch(() => undefined)
      .finally(() => (reading = undefined)))
  const gauge = (name: string, help: string, value: (status: PartitionStatus) => number) =>
    new Gauge({
      name: `sluice_relay_${name}`,
      help,
      registers,
      async collect() {
        const status = await read()
        if (status !== undefined) this.set(value(status))
      },
    })
  gauge('partitions', 'Partitions that outbox.events has', ({ count }) => count)
  gauge('partitions_ahead', 'Partitions with no position drawn yet', ({ ahead }) => ahead)
  gauge('outbox_bytes', 'Size of outbox.events on disk', ({ bytes }) => bytes)
  gauge('partition_alarms', 'What a person has to know of them', ({ alarms }) => alarms.length)
  const counter = (name: string, help: string, total: () => number) =>
    new Counter({
      name: `sluice_relay_${name}_total`,
      help,
      registers,
      collect() {
        this.reset()
        this.inc(total())
      },
    })
  counter('partitions_made', 'Partitions that this process has made', () => state.made)
  counter('partitions_retired', 'Partitions that this process has dropped', () => state.retired)
  counter('maintenance_failures', 'Runs of maintenance that failed', () => state.failures)
}
