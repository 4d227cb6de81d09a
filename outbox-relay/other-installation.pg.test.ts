import { waitUntil } from 'local-stack/wait-until'
import { openPool } from 'migrations/database'
import { expect, test } from 'vitest'
import { openCursor } from './cursor.ts'
import { WayToConnector } from './debezium/connector-entry.ts'
import { willingConnect } from './debezium/test-willing-connect.ts'
import { Handover, type Way } from './handover.ts'
import { connect, readingSession, testNames, type TestOutbox, testOutbox } from './test-outbox.ts'
import { openServer, ownServers, placeAt } from './test-server.ts'
import { openSlot, readLog } from './wal/test-log-reader.ts'
import { slotNames } from './wal/test-wal-relay.ts'
import { wayToLog } from './wal/wal-entry.ts'

// CDC_DATABASE_URL leads to the database of somebody else's Sluice, or to a copy of ours.

/** Tries the way in, by its own way out; what it says, and whether it hands over. */
async function tryTo<Made>(
  { relayUrl, pool: db }: Pick<TestOutbox, 'relayUrl' | 'pool'>,
  way: Way<Made>,
) {
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
  await using worker = await willingConnect()
  const opened = await openSlot(theirs.cdcUrl, (await testNames(theirs, '1')).walSlot)
  const names = await testNames(ours, '7')
  const { url: connectUrl, limitBytes } = worker
  const place = { cdcUrl: theirs.cdcUrl, connectUrl, db: ours.pool, names, limitBytes }
  const { handedOver, told } = await tryTo(ours, new WayToConnector(place))
  expect({ handedOver, told }).toMatchObject({ handedOver: false })
  expect(worker.asked.filter((line) => !line.startsWith('GET'))).toEqual([])
  await using session = await theirs.superuser()
  expect(await slotNames(session)).toEqual([opened.slot.name])
  await opened.session[Symbol.asyncDispose]()
})

// A standby that was promoted has the identity of its primary, and the same database under the same
// oid: only a slot that was made there, and is not here, tells the two apart.
test.skipIf(!ownServers)(
  'a promoted copy of the server is refused in both modes, and keeps no slot',
  async () => {
    await using primary = await openServer()
    await using standby = await primary.openStandby()
    const { relayUrl } = primary.place
    const { cdcUrl, superuserUrl } = placeAt(standby.url('sluice_write'))
    const onError = () => {} // The statement that was running reports it.
    await using pool = openPool({
      url: relayUrl,
      applicationName: 'test-relay',
      maxConnections: 4,
      onError,
    })
    await using there = await connect(superuserUrl)
    await there.sql('select pg_promote()')
    await using worker = await willingConnect()
    const names = await testNames({ pool }, '7')
    const place = { db: pool, names }
    const { url: connectUrl, limitBytes } = worker
    const ours = { relayUrl, pool }
    const tries = [
      await tryTo(ours, wayToLog({ ...place, url: cdcUrl })),
      await tryTo(ours, new WayToConnector({ ...place, cdcUrl, connectUrl, limitBytes })),
    ]
    for (const { handedOver, told } of tries) {
      expect(handedOver).toBe(false)
      const why = /was made and is not to be seen from the write database/
      expect(told).toContainEqual(expect.stringMatching(why))
    }
    expect(worker.asked.filter((line) => !line.startsWith('GET'))).toEqual([])
    await waitUntil(async () => (await slotNames(there)).length === 0, { what: 'no slots' })
  },
  60_000,
)
