import { expect, test } from 'vitest'
import { jarsFolder } from '../kafka/jars.ts'
import { connectJars, workerProperties } from './connect.ts'

test('a worker listens on loopback, and keeps what it knows under its group’s name', () => {
  const options = { brokers: ['a:1', 'b:2'], port: 9003, properties: { 'session.timeout.ms': 7 } }
  const text = workerProperties({ ...options, group: 'mine' })
  expect(text).toContain('bootstrap.servers=a:1,b:2\n')
  expect(text).toContain('listeners=http://127.0.0.1:9003\n')
  expect(text).toContain('offset.storage.topic=mine-offsets\n')
  expect(text.match(/^session\.timeout\.ms=.*$/gm)).toEqual(['session.timeout.ms=7'])
  expect(workerProperties(options)).toContain('group.id=sluice-connect\n')
})

test('a worker stores offsets every second: a slot moves only then, and the default is a minute', () => {
  const text = workerProperties({ brokers: ['a:1'], port: 9003 })
  expect(text).toContain('offset.flush.interval.ms=1000\n')
})

test('its jars are kept beside the broker’s, in a folder of their own', () => {
  expect(jarsFolder('/cache', connectJars)).toMatch(/^\/cache\/connect-[0-9a-f]{12}$/)
  expect(jarsFolder('/cache')).toMatch(/^\/cache\/kafka-[0-9a-f]{12}$/)
})
