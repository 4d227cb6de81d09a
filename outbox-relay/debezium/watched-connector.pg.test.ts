import { waitUntil } from 'local-stack/wait-until'
import { expect, test } from 'vitest'
import { openCursor } from '../cursor.ts'
import { newRelayState, type Notes } from '../relay-state.ts'
import { readingSession, testNames, testOutbox } from '../test-outbox.ts'
import { readPublication } from './publication.ts'
import { WatchedConnector } from './watched-connector.ts'

test('the alarm goes when the slot moves, though no checkpoint is passed, and comes again', async () => {
  await using outbox = await testOutbox()
  await using superuser = await outbox.superuser()
  await using reading = await readingSession(outbox.relayUrl)
  const names = await testNames(outbox, '7')
  await superuser.sql(`select pg_create_logical_replication_slot('${names.slot}', 'pgoutput')`)
  // On the way to the first checkpoint.
  const places: string[] = []
  for (let n = 0; n < 100; n += 1) {
    const { rows } = await superuser.client.query<{ lsn: string }>(
      `select pg_logical_emit_message(true, 'place', '')::text as lsn`,
    )
    places.push(rows[0]?.lsn ?? '')
  }
  let standstills = 0
  const quiet = () => {}
  const notes = {
    state: newRelayState(),
    metrics: { standstills: { inc: () => (standstills += 1) }, connectorRestarts: { inc: quiet } },
    log: { warn: quiet, error: quiet, info: quiet },
  } as unknown as Notes
  const stop = new AbortController()
  const watched = new WatchedConnector({
    connectUrl: 'http://127.0.0.1:9',
    names,
    db: outbox.pool,
    cursor: openCursor(reading.client),
    start: { next: 1n, gaps: [] },
    publication: await readPublication(outbox.pool),
    saver: { offer: quiet, flush: async () => {} },
    assertHeld: quiet,
    onPassed: quiet,
    notes,
    standstillMs: 1_000,
    lost: new AbortController().signal,
    stop: stop.signal,
  })
  const running = watched.run()
  const alarm = (on: boolean) => () => notes.state.connector?.standsStill === on
  try {
    await waitUntil(alarm(true), { what: 'the alarm' })
    expect(standstills).toBe(1)
    const calm = async () => {
      const place = places.shift() ?? ''
      await superuser.sql(`select pg_replication_slot_advance('${names.slot}', '${place}')`)
      return alarm(false)()
    }
    await waitUntil(calm, { what: 'the alarm to go', deadlineMs: 5_000 })
    await waitUntil(() => standstills === 2, { what: 'the second standstill to be told' })
  } finally {
    stop.abort()
    await running
    await superuser.sql(`select pg_drop_replication_slot('${names.slot}')`)
  }
})
