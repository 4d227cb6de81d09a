import { waitUntil } from 'local-stack/wait-until'
import { expect, test } from 'vitest'
import { formatLsn, type Lsn } from './lsn.ts'
import type { ReplicationHandlers, ReplicationSession } from './replication-session.ts'
import { begin, commit, insert, relation, tableColumns } from './test-pgoutput.ts'
import { streamLog } from './wal-stream.ts'

// The server forgets what it was told, and a successor begins where progress was saved: so it is saved
// first, and told then.

const consistentPoint = 100n
const end = 300n

/** A stream without a server: what is told to it is said by hand, and `settled` is what it answers. */
function byHand() {
  let handlers: ReplicationHandlers | undefined
  const ended = Promise.withResolvers<never>()
  const session = {
    paused: false,
    stream: (_slot: unknown, _publication: string, given: ReplicationHandlers) => {
      handlers = given
      return ended.promise
    },
    [Symbol.asyncDispose]: async () => ended.reject(new Error('closed')),
  } as unknown as ReplicationSession
  return {
    entered: { session, slot: { name: 'by_hand', consistentPoint } },
    say: (...messages: Buffer[]) => messages.forEach((each) => handlers?.onMessage(each)),
    keepalive: (lsn: Lsn) => handlers?.onKeepalive(lsn),
    settled: () => handlers?.settled(),
  }
}

/** A saver of which every save is ended by the test. */
function hangingSaver() {
  const saves: PromiseWithResolvers<void>[] = []
  return {
    saves,
    offer: () => {},
    flush() {
      const save = Promise.withResolvers<void>()
      saves.push(save)
      return save.promise
    },
  }
}

function streamed() {
  const server = byHand()
  const saver = hangingSaver()
  const published: string[] = []
  const stop = new AbortController()
  const slot = { name: 'by_hand', walStatus: 'reserved', retainedBytes: 0, safeBytes: null }
  const streaming = streamLog({
    entered: server.entered,
    start: { next: 1n, gaps: [] },
    publish: async (rows) => void published.push(...rows.map(([position]) => position)),
    saver,
    cursor: { proveGaps: async ({ gaps }) => ({ observed: gaps, dead: [] }) },
    readSlot: async () => ({ ...slot, confirmedFlush: formatLsn(consistentPoint) }),
    awaitedRow: async () => undefined,
    onSlot: () => {},
    onProgress: () => {},
    batchRows: 10,
    lost: new AbortController().signal,
    stop: stop.signal,
  })
  streaming.catch(() => {}) // Heard of by whoever asks.
  return { server, saver, published, stop, streaming }
}

const row = tableColumns.map((column) =>
  column === 'occurred_at' ? '2026-11-21 08:00:00+00' : '1',
)
const transaction = [begin(), relation(tableColumns), insert(row), commit(end)]

test.each([
  ['a transaction that Kafka has confirmed', 'transaction'],
  ['a keepalive while nothing is in flight', 'keepalive'],
] as const)('%s moves what the server is told only once progress is saved', async (_what, kind) => {
  const { server, saver, published, stop, streaming } = streamed()
  if (kind === 'keepalive') server.keepalive(end)
  else {
    server.say(...transaction)
    await waitUntil(() => published.length > 0, { what: 'the row to be published' })
  }
  await waitUntil(() => saver.saves.length === 1, { what: 'the save' })
  expect(server.settled()).toBe(consistentPoint)
  saver.saves[0]?.resolve()
  await waitUntil(() => server.settled() === end, { what: 'the server to be told' })
  stop.abort()
  await waitUntil(() => saver.saves.length === 2, { what: 'the last save' })
  saver.saves[1]?.resolve()
  expect((await streaming).next).toBe(kind === 'keepalive' ? 1n : 2n)
})

test('a save that fails ends the stream, and the server is told nothing', async () => {
  const { server, saver, streaming } = streamed()
  server.say(...transaction)
  await waitUntil(() => saver.saves.length === 1, { what: 'the save' })
  saver.saves[0]?.reject(new Error('another leader has begun'))
  await waitUntil(() => saver.saves.length === 2, { what: 'the end' })
  expect(server.settled()).toBe(consistentPoint)
  saver.saves[1]?.resolve()
  await expect(streaming).rejects.toThrow('another leader has begun')
  expect(server.settled()).toBe(consistentPoint)
})
