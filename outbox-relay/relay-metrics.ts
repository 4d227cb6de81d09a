import { Counter, Gauge, Histogram, type Registry } from 'prom-client'
import { modes } from './modes.ts'
import { readParkedCounts } from './parking-table.ts'
import type { RelayState } from './relay-state.ts'
import type { TableStatus } from './relay-table.ts'
import type { Queryable } from './text-query.ts'

export type RelayMetrics = ReturnType<typeof openRelayMetrics>

/** The relay's own figures. `tableStatus` is asked at each scrape; without an answer it is left out. */
export function openRelayMetrics(
  registry: Registry,
  state: RelayState,
  tableStatus: () => Promise<TableStatus>,
) {
  const registers = [registry]
  const gauge = (name: string, help: string, value: () => number) =>
    new Gauge({
      name: `sluice_relay_${name}`,
      help,
      registers,
      collect() {
        this.set(value())
      },
    })
  gauge('leader', '1 while this process leads', () => (state.leading ? 1 : 0))
  gauge('epoch', 'Epoch of the last leadership of this process', () => Number(state.epoch ?? 0))
  gauge('next_position', 'Lowest position not read yet by this process', () => Number(state.next))
  gauge('open_gaps', 'Ranges of positions below it that may still fill', () => state.openGaps)
  for (const mode of modes) {
    gauge(`source_${mode}`, `1 while ${mode} sends`, () => (state.source === mode ? 1 : 0))
  }
  gauge('slot_retained_bytes', 'Log that the server keeps for the slot in use', () =>
    state.slot === null ? 0 : state.slot.retainedBytes,
  )
  gauge(
    'connector_checkpoint_age_seconds',
    'Since the connector was last known to be where the log is',
    () => (state.connector === null ? 0 : (performance.now() - state.connector.passedMs) / 1_000),
  )
  gauge('connector_standstill', '1 while the connector moves nothing that it should', () =>
    state.connector?.standsStill === true ? 1 : 0,
  )
  registerTableGauges(registry, tableStatus)
  return counters(registers)
}

function counters(registers: Registry[]) {
  return {
    records: new Counter({
      name: 'sluice_relay_published_records_total',
      help: 'Records that Kafka confirmed',
      registers,
    }),
    payloadBytes: new Counter({
      name: 'sluice_relay_published_payload_bytes_total',
      help: 'Bytes of payload that Kafka confirmed',
      registers,
    }),
    refusedEvents: new Counter({
      name: 'sluice_relay_refused_events_total',
      help: 'Events that Kafka refused for themselves; each parks its aggregate',
      registers,
    }),
    batches: new Counter({
      name: 'sluice_relay_batches_total',
      help: 'Batches that Kafka confirmed',
      registers,
    }),
    failedAttempts: new Counter({
      name: 'sluice_relay_failed_attempts_total',
      help: 'Attempts to publish a batch that failed and were tried again',
      registers,
    }),
    failures: new Counter({
      name: 'sluice_relay_failures_total',
      help: 'Ends of a leadership, of the wait for one, or of a connector, by code',
      labelNames: ['code'] as const,
      registers,
    }),
    streamLosses: new Counter({
      name: 'sluice_relay_stream_losses_total',
      help: 'Ends of a replication stream that nobody asked for; polling took over',
      registers,
    }),
    connectorRestarts: new Counter({
      name: 'sluice_relay_connector_restarts_total',
      help: 'Restarts of a connector that had FAILED',
      registers,
    }),
    standstills: new Counter({
      name: 'sluice_relay_connector_standstills_total',
      help: 'Times that the connector moved nothing for too long',
      registers,
    }),
    stepBacks: new Counter({
      name: 'sluice_relay_step_backs_total',
      help: 'Times that the server had lost published commits, and all was published again',
      registers,
    }),
    publishSeconds: new Histogram({
      name: 'sluice_relay_publish_seconds',
      help: 'Time from sending a batch to its confirmation, repeats included',
      buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30],
      registers,
    }),
  }
}

function registerTableGauges(registry: Registry, tableStatus: () => Promise<TableStatus>): void {
  const oldest = new Gauge({
    name: 'sluice_relay_oldest_unpublished_seconds',
    help: 'Age of the oldest committed row not saved as published',
    registers: [registry],
  })
  const backlog = new Gauge({
    name: 'sluice_relay_backlog_rows',
    help: 'Committed rows not saved as published, counted up to a bound',
    registers: [registry],
    async collect() {
      const status = await tableStatus().catch(() => undefined)
      this.reset()
      oldest.reset()
      if (status === undefined) return
      backlog.set(status.backlog)
      oldest.set((status.oldestUnpublishedMs ?? 0) / 1_000)
    },
  })
}

/** What waits behind a refusal; without an answer it is left out. */
export function registerParkedGauges(registry: Registry, db: Queryable): void {
  const registers = [registry]
  const events = new Gauge({
    name: 'sluice_relay_parked_events',
    help: 'Events that wait because one of their aggregate was refused, itself included',
    registers,
  })
  const aggregates = new Gauge({
    name: 'sluice_relay_parked_aggregates',
    help: 'Aggregates with an event that Kafka refused, counted up to a bound',
    registers,
    async collect() {
      const counts = await readParkedCounts(db).catch(() => undefined)
      this.reset()
      events.reset()
      if (counts === undefined) return
      aggregates.set(counts.aggregates)
      events.set(counts.events)
    },
  })
}
