import {
  port,
  postgresUrl,
  readEnvironment,
  serviceEnvironment,
  wholeNumber,
} from 'service/environment'

export const variables = serviceEnvironment({
  COMMAND_API_PORT: port(4010),
  WRITE_DATABASE_URL: postgresUrl,
  HEARTBEAT_SECONDS: wholeNumber(1, { min: 0, max: 3_600 }),
  COMMAND_LANES: wholeNumber(2, { min: 1, max: 32 }),
  COMMAND_BATCH_LIMIT: wholeNumber(64, { min: 1, max: 1_000 }),
  IDEMPOTENCY_DAYS: wholeNumber(30, { min: 1, max: 3_650 }),
  HOLD_EXPIRY_SECONDS: wholeNumber(1, { min: 0, max: 59 }),
  FORCE_DEBIT_LIMIT: wholeNumber(1_000_000, { min: 0, max: 999_999_999_999 }),
})

/** Settings of the command API. WRITE_DATABASE_URL is that of the role sluice_command. */
export const readConfig = () => readEnvironment(variables)
