/** Every way in which the stack refuses to start or to go on. */
export type StackErrorCode =
  | 'arguments_invalid'
  | 'config_invalid'
  | 'data_folder_locked'
  | 'data_folder_unusable'
  | 'orphan_not_stopped'
  | 'spawn_failed'
  | 'ports_taken'
  | 'postgres_binaries_missing'
  | 'postgres_binaries_unusable'
  | 'postgres_data_gone'
  | 'postgres_password_refused'
  | 'postgres_start_failed'
  | 'java_missing'
  | 'jars_failed'
  | 'kafka_start_failed'
  | 'kafka_runtime_changed'
  | 'connect_start_failed'
  | 'container_start_failed'
  | 'service_start_failed'
  | 'sample_failed'
  | 'deadline_passed'
  | 'connections_left_open'

/** An expected failure: its message is a whole sentence for the person who typed the command. */
export class StackError extends Error {
  readonly code: StackErrorCode

  constructor(code: StackErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'StackError'
    this.code = code
  }
}
