/** Every way in which the relay refuses to go on, or says why it waits. */
export type RelayErrorCode =
  | 'aggregates_parked'
  | 'connector_lost'
  | 'connector_refused'
  | 'foreign_server'
  | 'lease_lost'
  | 'parking_full'
  | 'progress_fenced'
  | 'publication_unfit'
  | 'relay_row_missing'
  | 'slot_lost'
  | 'slot_unusable'
  | 'standby_server'
  | 'stream_lost'
  | 'stream_malformed'

/** A failure with a stable code and, in its message, what to do about it. */
export class RelayError extends Error {
  readonly code: RelayErrorCode
  /** What the message names, for whoever reads the log by machine. */
  readonly details: Readonly<Record<string, unknown>>

  constructor(
    code: RelayErrorCode,
    message: string,
    options: ErrorOptions & { details?: Readonly<Record<string, unknown>> } = {},
  ) {
    super(message, options)
    this.name = 'RelayError'
    this.code = code
    this.details = options.details ?? {}
  }
}

const unrecoverable = new Set<RelayErrorCode>(['foreign_server', 'relay_row_missing'])

/** Whether waiting cannot mend it: the process ends, loudly. Everything else is tried again. */
export function isUnrecoverable(error: unknown): boolean {
  return error instanceof RelayError && unrecoverable.has(error.code)
}
