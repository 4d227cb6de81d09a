import type { TopicSpecification } from 'kafka/admin'

const week = 7 * 24 * 3_600 * 1_000

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
]
