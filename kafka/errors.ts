/** Every way in which this folder fails for good, or gives up after its bound. */
export type KafkaErrorCode =
  | 'broker_silent'
  | 'kafka_unreachable'
  | 'producer_fenced'
  | 'record_batch_malformed'
  | 'record_refused'
  | 'topic_leaders_missing'
  | 'topic_missing'
  | 'topic_partitions_differ'
  | 'topic_refused'

/** A failure with a stable code; the client library's own error is its cause. */
export class KafkaError extends Error {
  readonly code: KafkaErrorCode

  constructor(code: KafkaErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'KafkaError'
    this.code = code
  }
}

/** Kafka's answer to a request of ours: its number and name for what is wrong. */
export class ProtocolFailure extends Error {
  readonly code: number
  readonly type: string

  constructor({ code, type }: { code: number; type: string }, message: string) {
    super(message)
    this.name = 'ProtocolFailure'
    this.code = code
    this.type = type
  }
}

/** Kafka's number and name for an error, found through the library's wrapping; else undefined. */
export function protocolErrorOf(error: unknown): { code: number; type: string } | undefined {
  for (let inner = error, depth = 0; inner instanceof Error && depth < 6; depth += 1) {
    const { code, type, apiCode, apiId } = inner as unknown as Record<string, unknown>
    if (typeof code === 'number' && typeof type === 'string') return { code, type }
    // The same of the other library.
    if (typeof apiCode === 'number' && typeof apiId === 'string')
      return { code: apiCode, type: apiId }
    // Topic creation answers one error per topic; the first tells why.
    inner = (inner as { errors?: unknown[] }).errors?.[0] ?? inner.cause
  }
  return undefined
}

// RECORD_LIST_TOO_LARGE, MESSAGE_TOO_LARGE, INVALID_TOPIC_EXCEPTION (a name that no topic can have),
// INVALID_RECORD: about the record. Everything else is about Kafka's state or ours, and passes:
// INVALID_TIMESTAMP too, which says that two clocks differ, and of every record.
const refusals = new Set([18, 10, 17, 87])

/** Is this what Kafka says of a record that it will never take? */
export function isRefusal(code: number): boolean {
  return refusals.has(code)
}
