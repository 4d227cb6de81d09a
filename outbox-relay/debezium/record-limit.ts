import { recordLimitOf } from 'kafka/admin'
import { type Queryable, queryText } from '../text-query.ts'
import { topicOf } from '../wire.ts'

/** What a Kafka producer sends at most unless it is told otherwise. */
const producerLimitBytes = 1_048_576
const recentPositions = '100000'

/**
 * The largest record, in bytes, that each topic of late takes. A connector has to refuse what is larger
 * before it sends it: refused by the broker, it would come after those behind it that were on their way.
 * A topic of no recent event is not looked at.
 */
export async function connectorLimitBytes(
  db: Queryable,
  brokers: readonly string[],
): Promise<number> {
  const rows = await queryText(db, {
    name: 'relay-recent-types',
    text: `select distinct aggregatetype from outbox.events
            where position > (select coalesce(max(position), 0) - $1 from outbox.events)`,
    values: [recentPositions],
    timeoutMs: 5_000,
  })
  const topics = rows.map(([type]) => topicOf(type ?? ''))
  const limit = await recordLimitOf({ brokers, topics })
  return Math.min(limit ?? producerLimitBytes, producerLimitBytes)
}
