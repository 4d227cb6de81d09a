import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { EnvironmentInvalid } from 'service/environment'
import { describe, expect, test } from 'vitest'
import { cacheFolder, readStackConfig } from './config.ts'

function problemsOf(environment: NodeJS.ProcessEnv): readonly string[] {
  try {
    readStackConfig(environment, false)
    return []
  } catch (error) {
    return (error as EnvironmentInvalid).problems
  }
}

describe('the settings of npm start', () => {
  test('have a default each, on loopback', () => {
    expect(readStackConfig({}, false)).toMatchObject({
      host: '127.0.0.1',
      auth: 'on',
      dataDir: resolve('.sluice'),
      ports: {
        commandApi: 4010,
        queryApi: 4020,
        relay: 4030,
        postgres: 25432,
        kafka: 29092,
        kafkaController: 29093,
        connect: 28083,
      },
      needsConnect: false,
      given: { brokers: undefined, connectUrl: undefined, databases: undefined },
    })
  })

  test('name every bad variable at once', () => {
    const problems = problemsOf({ KAFKA_PORT: 'x', RELAY_PORT: '70000', AUTH: 'maybe' })
    expect(problems.map((problem) => problem.split(':')[0])).toEqual(
      expect.arrayContaining(['KAFKA_PORT', 'RELAY_PORT', 'AUTH']),
    )
  })

  test('refuse one port for two', () => {
    expect(problemsOf({ POSTGRES_PORT: '4010' })).toEqual([
      'POSTGRES_PORT: is 4010, as is COMMAND_API_PORT',
    ])
  })

  test('refuse port 0, which nobody could be told', () => {
    expect(problemsOf({ RELAY_PORT: '0' })).toEqual([
      expect.stringMatching(/^RELAY_PORT: must not/),
    ])
  })

  test('refuse one database of two', () => {
    const url = 'postgres://a:b@db:5432/w'
    expect(problemsOf({ MIGRATOR_WRITE_DATABASE_URL: url })).toEqual([
      expect.stringContaining('MIGRATOR_READ_DATABASE_URL'),
    ])
  })

  test('refuse AUTH=off where others could call', () => {
    expect(problemsOf({ AUTH: 'off', HOST: '0.0.0.0' })).toEqual([expect.stringMatching(/^AUTH:/)])
    expect(problemsOf({ AUTH: 'off' })).toEqual([])
  })

  test('take Kafka and the databases as given, each by itself', () => {
    const { given } = readStackConfig({ KAFKA_BROKERS: 'a:1, b:2' }, false)
    expect(given).toEqual({
      brokers: ['a:1', 'b:2'],
      connectUrl: undefined,
      databases: undefined,
    })
  })

  test('start Kafka Connect where the relay drives a connector, or where it is asked for', () => {
    expect(readStackConfig({ RELAY_MODE: 'debezium' }, false).needsConnect).toBe(true)
    expect(readStackConfig({ SLUICE_CONNECT: '1' }, false).needsConnect).toBe(true)
    expect(readStackConfig({ RELAY_MODE: 'polling' }, false).needsConnect).toBe(false)
    const { given } = readStackConfig({ CONNECT_URL: 'http://connect:8083' }, false)
    expect(given.connectUrl).toBe('http://connect:8083')
    expect(problemsOf({ CONNECT_URL: 'connect:8083', SLUICE_CONNECT: 'yes' })).toHaveLength(2)
  })

  test('have no data folder when ephemeral', () => {
    expect(readStackConfig({ SLUICE_DATA_DIR: '/x' }, true).dataDir).toBeUndefined()
  })
})

test('downloads go to the named cache, else to the user’s', () => {
  expect(cacheFolder({ SLUICE_CACHE_DIR: '/a', XDG_CACHE_HOME: '/b' })).toBe('/a')
  expect(cacheFolder({ XDG_CACHE_HOME: '/b' })).toBe('/b/sluice')
  expect(cacheFolder({})).toBe(join(homedir(), '.cache/sluice'))
})
