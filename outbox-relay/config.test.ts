import { expect, test } from 'vitest'
import { readConfig } from './config.ts'

const required = {
  AUTH: 'off',
  WRITE_DATABASE_URL: 'postgres://sluice_relay:secret@127.0.0.1:25432/sluice_write',
  KAFKA_BROKERS: '127.0.0.1:29092',
}

test('the defaults are those of the documentation', () => {
  expect(readConfig(required)).toMatchObject({
    RELAY_PORT: 4030,
    RELAY_MODE: 'polling',
    RELAY_LEASE_MS: 5_000,
    RELAY_POLL_BUSY_MS: 5,
    RELAY_POLL_IDLE_MS: 50,
    RELAY_BATCH_ROWS: 1_000,
    KAFKA_BROKERS: ['127.0.0.1:29092'],
    KAFKA_PRODUCER: 'kafkajs',
  })
})

test.each(['wal', 'debezium'])('mode %s is refused in one sentence', (mode) => {
  expect(() => readConfig({ ...required, RELAY_MODE: mode })).toThrow(
    'RELAY_MODE: only polling is supported by this version',
  )
})

test('the producer is one of two', () => {
  const chosen = readConfig({ ...required, KAFKA_PRODUCER: 'direct' })
  expect(chosen.KAFKA_PRODUCER).toBe('direct')
  expect(() => readConfig({ ...required, KAFKA_PRODUCER: 'other' })).toThrow(
    'KAFKA_PRODUCER: must be direct or kafkajs',
  )
})

test('all bad variables are reported together, and no secret with them', () => {
  const bad = {
    ...required,
    RELAY_MODE: 'telepathy',
    RELAY_LEASE_MS: '5',
    WRITE_DATABASE_URL: 's3cret',
  }
  expect(() => readConfig(bad)).toThrow(
    expect.objectContaining({
      problems: [
        expect.stringContaining('WRITE_DATABASE_URL'),
        'RELAY_MODE: must be polling',
        'RELAY_LEASE_MS: must be from 200 to 300000',
      ],
    }),
  )
  expect(() => readConfig(bad)).not.toThrow(/s3cret/)
})
