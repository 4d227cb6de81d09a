import { waitUntil } from 'local-stack/wait-until'
import { pause } from 'service/backoff'
import { expect, test } from 'vitest'
import { known } from '../test-modes.ts'
import { testOutbox } from '../test-outbox.ts'
import { openStage } from '../test-stage.ts'
import { testConnector } from './test-connector.ts'

// As `wal.long.test.ts`: a replication address of another database streams nothing, and says so.

test('a connector of another database sends none of its rows, and it is said', async () => {
  await using stage = await openStage(known.debezium)
  await stage.makeTopic()
  await using other = await testOutbox()
  await using _ = await testConnector(other)
  await using writer = await other.superuser()
  const ended = new AbortController()
  const { aggregateType } = stage
  const writing = (async () => {
    for (let version = 1; !ended.signal.aborted; version += 1) {
      await writer.insert({ aggregateType, aggregateId: 'theirs', version })
      await pause(20, ended.signal)
    }
  })()
  await using relay = await stage.relay({ CDC_DATABASE_URL: other.cdcUrl })
  const said: (string | null)[] = []
  const reason = async () => {
    const { waitingFor } = await relay.status()
    if (said.at(-1) !== waitingFor) said.push(waitingFor)
    return /slot .* is gone|another server or database/.test(waitingFor ?? '')
  }
  try {
    await waitUntil(reason, { what: 'it to be told', deadlineMs: 40_000 })
    await pause(5_000)
  } finally {
    ended.abort()
    await writing
  }
  const sent = (await stage.dump()).length
  await relay.stop('SIGTERM')
  expect({ sent, said: said.at(-1) }).toEqual({
    sent: 0,
    said: expect.stringMatching(/another server or database/),
  })
}, 90_000)
