import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import pg from 'pg'
import { expect, test } from 'vitest'
import { ask, isAway } from './sql.ts'

const failureOf = (port: number) =>
  ask(`postgres://drill:drill@127.0.0.1:${port}/drill`, 'select').catch((error: unknown) => error)

test('a server that hangs up, or that is not there, is away', async () => {
  const server = createServer((socket) => socket.destroy()).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  expect(isAway(await failureOf(port))).toBe(true)
  server.close()
  await once(server, 'close')
  const refused = await failureOf(port)
  expect(refused).toMatchObject({ code: 'ECONNREFUSED' })
  expect(isAway(refused)).toBe(true)
})

test.each([
  ['57P01', true],
  ['57P03', true],
  ['08006', true],
  ['53300', true],
  ['42P01', false],
  ['28P01', false],
  ['57014', false],
])('a server that says %s is away: %s', (code, away) => {
  expect(isAway(Object.assign(new pg.DatabaseError('no', 2, 'error'), { code }))).toBe(away)
})

test('an error of our own is not a server that is away', () => {
  expect(isAway(new TypeError('undefined is not a function'))).toBe(false)
  expect(isAway(Object.assign(new Error('no such host'), { code: 'ENOTFOUND' }))).toBe(false)
})
