import { createServer } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { waitUntil } from 'local-stack/wait-until'
import { expect, test } from 'vitest'
import { openCursor } from './cursor.ts'
import { WayToConnector } from './debezium/connector-entry.ts'
import { Handover, type Way } from './handover.ts'
import { readingSession, testNames, type TestOutbox, testOutbox } from './test-outbox.ts'
import { openSlot, readLog } from './wal/test-log-reader.ts'
import { slotNames } from './wal/test-wal-relay.ts'
import { wayToLog } from './wal/wal-entry.ts'

// CDC_DATABASE_URL leads to the database of somebody else's Sluice.

/** A Connect that says yes to everything, and remembers what it was asked. */
async function willingConnect() {
  const asked: string[] = []
  const server = createServer((request, response) => {
    const { method, url = '' } = request
    asked.push(`${method} ${url}`)
    const stopped = { name: 'c', connector: { state: 'STOPPED', worker_id: 'w' }, tasks: [] }
    const listed = method === 'GET' && url.endsWith('/connectors') ? [] : {}
    const body = url.endsWith('/status') ? stopped : listed
    response.setHeader('Content-Type', 'application/json')
    request.resume().on('end', () => response.end(JSON.stringify(body)))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    asked,
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

/** Tries the way in, by its own way out; what it says, and whether it hands over. */
async function tryTo<Made>({ relayUrl, pool: db }: TestOutbox, way: Way<Made>) {
  await using reading = await readingSession(relayUrl)
  const cursor = openCursor(reading.client)
  const told: string[] = []
  const { signal } = new AbortController()
  const waiting = (why: string) => void told.push(why)
  await using handover = new Handover({ way, db, step: async () => {}, waiting, signal })
  const handedOver = async () => handover.covers(await cursor.read({ next: 1n, gaps: [] }))
  const refused = () => told.some((why) => /another server or database/.test(why))
  await waitUntil(async () => (await handedOver()) || refused(), { what: 'one of the two' })
  return { told, handedOver: await handedOver() }
}

test('wal mode refuses it, and ends no slot of theirs', async () => {
  await using ours = await testOutbox()
  await using theirs = await testOutbox()
  const opened = await openSlot(theirs.cdcUrl, (await testNames(theirs, '1')).walSlot)
  const log = readLog(opened)
  const names = await testNames(ours, '7')
  const way = wayToLog({ url: theirs.cdcUrl, db: ours.pool, names })
  expect((await tryTo(ours, way)).handedOver).toBe(false)
  await using writer = await theirs.writer()
  const [position = 0n] = await writer.insert({ aggregateId: 'a', version: 1 })
  await log.until(position)
  await opened.session[Symbol.asyncDispose]()
})

test('mode debezium refuses it, makes no connector, and ends no slot of theirs', async () => {
  await using ours = await testOutbox()
  await using theirs = await testOutbox()
  await using connect = await willingConnect()
  const opened = await openSlot(theirs.cdcUrl, (await testNames(theirs, '1')).walSlot)
  const names = await testNames(ours, '7')
  const limitBytes = () => Promise.resolve(1_048_576)
  const place = { cdcUrl: theirs.cdcUrl, connectUrl: connect.url, db: ours.pool, names, limitBytes }
  const { handedOver, told } = await tryTo(ours, new WayToConnector(place))
  expect({ handedOver, told }).toMatchObject({ handedOver: false })
  expect(connect.asked.filter((line) => !line.startsWith('GET'))).toEqual([])
  await using session = await theirs.superuser()
  expect(await slotNames(session)).toEqual([opened.slot.name])
  await opened.session[Symbol.asyncDispose]()
})
