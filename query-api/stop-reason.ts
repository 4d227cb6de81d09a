/** The log is not what the stored offset belongs to: events may be in it no more. */
export type LogFault =
  | 'records_missing'
  | 'topic_recreated'
  | 'offset_below_log'
  | 'offset_beyond_log'

/**
 * Why a partition was left alone: what is wrong is wrong with the partition, and going on would lose
 * events. A fault of the log is stored, and holds until the partition is repaired from the feed;
 * `apply_failed` is tried again when the process starts again. What is wrong with one account puts
 * that account into quarantine instead.
 */
export type StopReason = {
  code: LogFault | 'apply_failed'
  /** A sentence for a person: what was found, and where. */
  detail: string
  /** The first record that was not applied. */
  offset: bigint
}

export type LogStop = StopReason & { code: LogFault }

export type LogBounds = { low: bigint; high: bigint }

/** What is wrong with going on from a stored offset in a topic as it is now, if anything is. */
export function offsetFault(
  stored: { topicId: string; next: bigint },
  topicId: string,
  { low, high }: LogBounds,
): LogStop | undefined {
  const offset = stored.next
  if (stored.topicId !== topicId) {
    const detail = `the topic was made anew: offset ${offset} belongs to ${stored.topicId}, not ${topicId}`
    return { code: 'topic_recreated', detail, offset }
  }
  if (offset > high) {
    const detail = `the log ends at ${high}, before the stored offset ${offset}: its tail was lost`
    return { code: 'offset_beyond_log', detail, offset }
  }
  if (offset < low) {
    const detail = `the log begins at ${low}: records from ${offset} on were deleted unread`
    return { code: 'offset_below_log', detail, offset }
  }
  return undefined
}
