/** Every way in which this folder fails for good, or gives up after its bound. */
export type KafkaErrorCode =
  | 'kafka_unreachable'
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

/** Kafka's number and name for an error, found through the library's wrapping; else undefined. */
export function protocolErrorOf(error: unknown): { code: number; type: string } | undefined {
  for (let inner = error, depth = 0; inner instanceof Error && depth < 6; depth += 1) {
    const { code, type } = inner as { code?: unknown; type?: unknown }
    if (typeof code === 'number' && typeof type === 'string') return { code, type }
    // Topic creation answers one error per topic; the first tells why.
    inner = (inner as { errors?: unknown[] }).errors?.[0] ?? inner.cause
  }
  return undefined
}
