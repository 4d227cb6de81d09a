/** Every way in which Kafka Connect, or what it is to be told, fails. */
export type ConnectErrorCode =
  /** A name, a position or an address that cannot be meant; nothing was sent. */
  | 'connector_settings_invalid'
  /** Nobody answers at the address, or not in time. */
  | 'connect_unreachable'
  /** It goes on saying that its workers are being reassigned. */
  | 'connect_busy'
  /** It refuses the request (4xx): the request, and not the moment, is wrong. */
  | 'connect_refused'
  /** It failed at the request (5xx). */
  | 'connect_failed'
  /** Something answers that is not Kafka Connect. */
  | 'connect_answer_malformed'
  | 'connector_missing'
  /** It did not come to the state that was asked for in time. */
  | 'connector_state_unreached'

/** A failure with a stable code. Its message never holds a password. */
export class ConnectError extends Error {
  readonly code: ConnectErrorCode

  constructor(code: ConnectErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'ConnectError'
    this.code = code
  }
}
