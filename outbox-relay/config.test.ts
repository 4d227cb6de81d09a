import { expect, test } from 'vitest'
import { readConfig } from './config.ts'

const required = {
  AUTH: 'off',
  WRITE_DATABASE_URL: 'postgres://sluice_relay:secret@127.0.0.1:25432/sluice_write',
  KAFKA_BROKERS: '127.0.0.1:29092',
}

test('the defaults are those of the documentation', () => {
  // All of them: a default that is missing here is one that may change unnoticed.
  expect(readConfig(required)).toEqual({
    ...required,
    HOST: '127.0.0.1',
    LOG_LEVEL: 'info',
    RELAY_PORT: 4030,
    RELAY_LEASE_MS: 5_000,
    RELAY_POLL_BUSY_MS: 5,
    RELAY_POLL_IDLE_MS: 50,
    RELAY_STANDSTILL_MS: 30_000,
    RELAY_BATCH_ROWS: 1_000,
    KAFKA_BROKERS: ['127.0.0.1:29092'],
    KAFKA_PRODUCER: 'direct',
    PARTITION_POSITIONS: 10_000_000,
    PARTITIONS_AHEAD: 10,
    RETENTION_SECONDS: 86_400,
    OUTBOX_MAX_MB: 50_000,
    MAINTENANCE_SCHEDULE: '* * * * *',
  })
})

test('a mode asks for what it needs', () => {
  const cdc = { CDC_DATABASE_URL: 'postgres://sluice_cdc:secret@127.0.0.1:25432/sluice_write' }
  const connect = { CONNECT_URL: 'http://127.0.0.1:28083' }
  const withMode = (RELAY_MODE: string, more = {}) =>
    readConfig({ ...required, RELAY_MODE, ...more })
  expect(() => withMode('wal')).toThrow('RELAY_MODE: mode wal needs CDC_DATABASE_URL')
  expect(() => withMode('debezium', cdc)).toThrow('RELAY_MODE: mode debezium needs CONNECT_URL')
  expect(withMode('wal', cdc).RELAY_MODE).toBe('wal')
  expect(withMode('debezium', { ...cdc, ...connect }).RELAY_MODE).toBe('debezium')
})

test('the producer is one of two', () => {
  const chosen = readConfig({ ...required, KAFKA_PRODUCER: 'kafkajs' })
  expect(chosen.KAFKA_PRODUCER).toBe('kafkajs')
  expect(() => readConfig({ ...required, KAFKA_PRODUCER: 'other' })).toThrow(
    'KAFKA_PRODUCER: must be direct or kafkajs',
  )
})

test('a schedule is one of cron, with seconds or without', () => {
  const withSchedule = (MAINTENANCE_SCHEDULE: string) =>
    readConfig({ ...required, MAINTENANCE_SCHEDULE }).MAINTENANCE_SCHEDULE
  expect(withSchedule('*/5 * * * * *')).toBe('*/5 * * * * *')
  expect(() => withSchedule('now and then')).toThrow(
    'MAINTENANCE_SCHEDULE: must be a cron expression, such as * * * * *',
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
        'RELAY_MODE: must be polling, wal or debezium',
        'RELAY_LEASE_MS: must be from 200 to 300000',
      ],
    }),
  )
  expect(() => readConfig(bad)).not.toThrow(/s3cret/)
})
