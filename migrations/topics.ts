import type { TopicSpecification } from 'kafka/admin'

const hour = 3_600 * 1_000
const week = 7 * 24 * hour

/**
 * Topics are part of the schema: made here, never by auto-creation. Twelve partitions are fixed:
 * growing them would move accounts between partitions and split their order.
 */
export const topics: readonly TopicSpecification[] = [
  {
    name: 'account-events',
    partitions: 12,
    settings: { 'cleanup.policy': 'delete', 'retention.ms': String(week) },
  },
  // Of each account the latest state, for ever; query-api writes it, and others load it as a table.
  { name: 'account-state', partitions: 12, settings: { 'cleanup.policy': 'compact' } },
  // Debezium's heartbeat goes here. Without the topic the connector blocks for ever and says RUNNING.
  {
    name: '__debezium-heartbeat.sluice',
    partitions: 1,
    settings: { 'cleanup.policy': 'delete', 'retention.ms': String(hour) },
  },
]
