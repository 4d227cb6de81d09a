export type BenchErrorCode =
  | 'arguments_invalid'
  | 'servers_unavailable'
  | 'measurement_failed'
  /** What was measured had not done its work rightly: its speed means nothing. */
  | 'violation'

export class BenchError extends Error {
  readonly code: BenchErrorCode

  constructor(code: BenchErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'BenchError'
    this.code = code
  }
}

/** Throws `violation` unless what was counted is what had to be. */
export function mustEqual(what: string, counted: number | string, expected: number | string): void {
  if (counted === expected) return
  throw new BenchError('violation', `${what}: ${counted}, and must be ${expected}`)
}
