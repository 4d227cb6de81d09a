/** The promises that are checked here, by their numbers in the design. */
export type PromiseNumber = 'I1' | 'I2' | 'I3' | 'I4' | 'I5' | 'I6' | 'I7' | 'I9'

/** One breach of one promise. */
export type Finding = { promise: PromiseNumber; what: string }

export const promises: Readonly<Record<PromiseNumber, string>> = {
  I1: 'every committed row reaches its topic',
  I2: 'no record without a committed row, and each as its row says',
  I3: "each account's first occurrences are in version order, in one partition",
  I4: 'each event takes effect once in the read model',
  I5: 'read model and account row are the fold of the events',
  I6: 'money: sums to zero, the same on both sides, never below its limit',
  I7: 'a command is there or not, as its caller was told',
  I9: 'saved progress is never ahead of Kafka',
}
