import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import {
  brokerList,
  EnvironmentInvalid,
  port,
  postgresUrl,
  readEnvironment,
  serviceEnvironment,
  wholeNumber,
} from './environment.ts'

const schema = serviceEnvironment({
  COMMAND_API_PORT: port(4010),
  WRITE_DATABASE_URL: postgresUrl,
  KAFKA_BROKERS: brokerList,
  SECONDS: wholeNumber(1, { min: 0, max: 60 }),
})

const good = {
  ACCESS_KEYS_FILE: 'keys.json',
  WRITE_DATABASE_URL: 'postgres://a:b@localhost/c',
  KAFKA_BROKERS: 'a:9092, b:9092',
}

function problemsOf(environment: Record<string, string>): readonly string[] {
  try {
    readEnvironment(schema, environment)
    return []
  } catch (error) {
    return (error as EnvironmentInvalid).problems
  }
}

describe('the environment', () => {
  it('is read once into typed settings, with defaults', () => {
    expect(readEnvironment(schema, { ...good, COMMAND_API_PORT: '' })).toMatchObject({
      COMMAND_API_PORT: 4010,
      KAFKA_BROKERS: ['a:9092', 'b:9092'],
      HOST: '127.0.0.1',
      AUTH: 'on',
      SECONDS: 1,
    })
  })

  it('has all its bad variables reported together, and no value repeated', () => {
    const bad = { COMMAND_API_PORT: '99999', KAFKA_BROKERS: 'secret host', SECONDS: '61' }
    const problems = problemsOf(bad)
    const names = problems.map((problem) => problem.split(':')[0])
    expect(names).toEqual([
      'COMMAND_API_PORT',
      'WRITE_DATABASE_URL',
      'KAFKA_BROKERS',
      'SECONDS',
      'ACCESS_KEYS_FILE',
    ])
    expect(problems.join()).not.toContain('secret')
    expect(problems[1]).toBe('WRITE_DATABASE_URL: required and not set')
  })

  it('refuses AUTH=off outside loopback, and AUTH=on without keys', () => {
    expect(problemsOf({ ...good, AUTH: 'off', HOST: '0.0.0.0' })).toEqual([
      'AUTH: off is allowed on loopback only, and HOST is another address',
    ])
    expect(problemsOf({ ...good, AUTH: 'off', HOST: '::1' })).toEqual([])
    expect(problemsOf({ ...good, ACCESS_KEYS_FILE: '' })).toHaveLength(1)
    const both = problemsOf({ ...good, AUTH: 'off', HOST: '0.0.0.0', SECONDS: 'x' })
    expect(both.map((problem) => problem.split(':')[0])).toEqual(['SECONDS', 'AUTH'])
  })

  it('is refused as a whole when it is not an object of strings', () => {
    expect(() => readEnvironment(z.object({ A: z.string() }), {})).toThrow(EnvironmentInvalid)
  })
})
