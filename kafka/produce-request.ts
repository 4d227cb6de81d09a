import {
  createAPI,
  produceV9,
  protocolErrorsCodesById,
  ResponseError,
  Writer,
} from '@platformatic/kafka'
import { isRefusal, ProtocolFailure } from './errors.ts'

// Produce, version 9, with batches that are encoded already; the library parses the answer. `compact`
// lengths are unsigned varints of the length plus one, `tags` one zero byte.
//
//   transactional_id  compact nullable string  null
//   acks              int16                    -1: all in-sync replicas
//   timeout_ms        int32                    how long the leader may wait for them
//   topics            compact array of
//     name            compact string
//     partitions      compact array of
//       index         int32
//       records       compact bytes            one record batch
//       tags
//     tags
//   tags

type ProduceResponse = produceV9.ProduceResponse

export type PartitionBatch = { topic: string; partition: number; bytes: Buffer }

const allInSync = -1

/** Throws the library's ResponseError where a partition answers with an error: see `answersOf`. */
export const produce = createAPI<[batches: PartitionBatch[], timeoutMs: number], ProduceResponse>(
  0,
  9,
  createRequest,
  produceV9.parseResponse,
).async

function createRequest(batches: readonly PartitionBatch[], timeoutMs: number): Writer {
  const topics = [...Map.groupBy(batches, ({ topic }) => topic)]
  return Writer.create()
    .appendString(null)
    .appendInt16(allInSync)
    .appendInt32(timeoutMs)
    .appendArray(topics, (writer, [topic, ofTopic]) => {
      writer.appendString(topic).appendArray(ofTopic, (each, { partition, bytes }) => {
        each
          .appendInt32(partition)
          .appendUnsignedVarInt(bytes.length + 1)
          .append(bytes)
      })
    })
    .appendTaggedFields()
}

/** What one partition answered. */
export type PartitionAnswer = {
  topic: string
  partition: number
  code: number
  text: string | null
}

/** The answers within a response, or within the error that the library makes of one with errors. */
export async function answersOf(response: Promise<ProduceResponse>): Promise<PartitionAnswer[]> {
  const { responses } = await response.catch((error: unknown) => {
    if (!(error instanceof ResponseError)) throw error
    return (error as unknown as { response: ProduceResponse }).response
  })
  return responses.flatMap(({ name, partitionResponses }) =>
    partitionResponses.map(({ index, errorCode, errorMessage }) => ({
      topic: name,
      partition: index,
      code: errorCode,
      text: errorMessage ?? null,
    })),
  )
}

/**
 * Throws unless each batch was confirmed. A record's refusal is thrown only where nothing else went
 * wrong: the rest passes, and the refusal is seen when it has.
 */
export function requireConfirmed(
  sent: readonly PartitionBatch[],
  answers: readonly PartitionAnswer[],
): void {
  const failed = answers.filter(({ code }) => code !== 0)
  const worst = failed.find(({ code }) => !isRefusal(code)) ?? failed[0]
  if (worst !== undefined) {
    const { topic, partition, code, text } = worst
    const type = protocolErrorsCodesById[code] ?? `ERROR_${code}`
    const why = text === null ? type : `${type} (${text})`
    throw new ProtocolFailure({ code, type }, `partition ${partition} of ${topic}: ${why}`)
  }
  for (const { topic, partition } of sent) {
    if (!answers.some((answer) => answer.topic === topic && answer.partition === partition)) {
      throw new Error(`no answer for partition ${partition} of ${topic}`)
    }
  }
}
