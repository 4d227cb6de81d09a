/** Every way in which the check of the containers cannot go on. */
export type ContainersErrorCode =
  | 'arguments_invalid'
  | 'docker_missing'
  | 'compose_missing'
  | 'compose_file_invalid'
  | 'command_failed'
  | 'access_key_missing'
  | 'container_unhealthy'
  | 'unexpected_answer'
  | 'tests_failed'
  | 'left_behind'

/** An expected failure: its message is for the person who typed the command. */
export class ContainersError extends Error {
  readonly code: ContainersErrorCode

  constructor(code: ContainersErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'ContainersError'
    this.code = code
  }
}
