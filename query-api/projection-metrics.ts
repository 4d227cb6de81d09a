import { Counter, Gauge, Histogram, type Registry } from 'prom-client'
import type { ProjectionStatus } from './status.ts'

/**
 * Figures of the projections, read from their statuses whenever they are asked for. Gives what
 * takes the time of one chunk.
 */
export function projectionMetrics(
  registry: Registry,
  statuses: readonly ProjectionStatus[],
  waiters: () => number,
): (projection: string) => (seconds: number) => void {
  const registers = [registry]
  void new Counter({
    name: 'sluice_projection_events_total',
    help: 'Events by what became of them',
    labelNames: ['projection', 'outcome'],
    registers,
    collect() {
      this.reset()
      for (const { projection, applied, duplicates, heartbeats, held } of statuses) {
        this.inc({ projection, outcome: 'applied' }, applied)
        this.inc({ projection, outcome: 'duplicate' }, duplicates)
        this.inc({ projection, outcome: 'heartbeat' }, heartbeats)
        this.inc({ projection, outcome: 'held' }, held)
      }
    },
  })
  lagMetrics(registers, statuses)
  stopMetrics(registers, statuses)
  quarantineMetrics(registers, statuses)
  void new Gauge({
    name: 'sluice_freshness_waiters',
    help: 'Reads that wait for the write their token names',
    registers,
    collect() {
      this.set(waiters())
    },
  })
  const chunkSeconds = new Histogram({
    name: 'sluice_projection_batch_seconds',
    help: 'Time from a chunk of records being handed over to its transaction being committed',
    labelNames: ['projection'] as const,
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30],
    registers,
  })
  return (projection) => (seconds) => chunkSeconds.observe({ projection }, seconds)
}

function lagMetrics(registers: Registry[], statuses: readonly ProjectionStatus[]): void {
  void new Gauge({
    name: 'sluice_projection_lag_events',
    help: 'Events in the log that are not applied yet, of partitions assigned to this process',
    labelNames: ['projection', 'partition'],
    registers,
    collect() {
      this.reset()
      for (const { projection, lags } of statuses) {
        for (const [partition, { events }] of lags) this.set({ projection, partition }, events)
      }
    },
  })
  void new Gauge({
    name: 'sluice_projection_lag_seconds',
    help: 'How old the oldest event not applied yet may be, of partitions assigned to this process',
    labelNames: ['projection', 'partition'],
    registers,
    collect() {
      this.reset()
      for (const { projection, lags } of statuses) {
        for (const [partition, { seconds }] of lags) {
          if (seconds !== null) this.set({ projection, partition }, seconds)
        }
      }
    },
  })
}

function stopMetrics(registers: Registry[], statuses: readonly ProjectionStatus[]): void {
  void new Gauge({
    name: 'sluice_projection_stopped_partitions',
    help: 'Partitions that stopped rather than lose or misapply an event',
    labelNames: ['projection'],
    registers,
    collect() {
      for (const { projection, stopped } of statuses) this.set({ projection }, stopped.size)
    },
  })
  void new Counter({
    name: 'sluice_projection_stops_total',
    help: 'Times that a partition stopped, by reason; again after each assignment that it outlasts',
    labelNames: ['projection', 'code'],
    registers,
    collect() {
      this.reset()
      for (const { projection, stops } of statuses) {
        for (const [code, count] of stops) this.inc({ projection, code }, count)
      }
    },
  })
  void new Counter({
    name: 'sluice_projection_partition_repairs_total',
    help: 'Stopped partitions that were brought up to the feed, by reason',
    labelNames: ['projection', 'code'],
    registers,
    collect() {
      this.reset()
      for (const { projection, repaired } of statuses) {
        for (const [code, count] of repaired) this.inc({ projection, code }, count)
      }
    },
  })
}

function quarantineMetrics(registers: Registry[], statuses: readonly ProjectionStatus[]): void {
  void new Gauge({
    name: 'sluice_projection_quarantined_accounts',
    help: 'Accounts that are in quarantine, whichever process put them there',
    labelNames: ['projection'],
    registers,
    collect() {
      this.reset()
      for (const { projection, quarantine } of statuses) {
        if (quarantine.accounts !== undefined) this.set({ projection }, quarantine.accounts)
      }
    },
  })
  void new Counter({
    name: 'sluice_projection_quarantine_entered_total',
    help: 'Accounts that came into quarantine, by reason',
    labelNames: ['projection', 'code'],
    registers,
    collect() {
      this.reset()
      for (const { projection, quarantine } of statuses) {
        for (const [code, count] of quarantine.entered) this.inc({ projection, code }, count)
      }
    },
  })
  void new Counter({
    name: 'sluice_projection_repairs_total',
    help: "Accounts released; restored: with their history replaced by the feed's",
    labelNames: ['projection', 'kind'],
    registers,
    collect() {
      this.reset()
      for (const { projection, quarantine } of statuses) {
        const { repaired, restored } = quarantine
        this.inc({ projection, kind: 'repaired' }, repaired - restored)
        this.inc({ projection, kind: 'restored' }, restored)
      }
    },
  })
}
