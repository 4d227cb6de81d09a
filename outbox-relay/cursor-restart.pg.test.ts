import { randomBytes } from 'node:crypto'
import { ensureDatabase, findFreePorts, openDataFolder, startPostgres } from 'local-stack'
import { migrate } from 'migrations/migrate'
import { expect, test } from 'vitest'
import { connect, ReadingRelay, readingSession, type Session } from './test-outbox.ts'

async function holderNames({ client }: Session): Promise<string[]> {
  const { rows } = await client.query<{ virtualtransaction: string }>(
    `select distinct virtualtransaction from pg_locks
      where relation = 'outbox.events'::regclass and mode = 'RowExclusiveLock'`,
  )
  return rows.map((row) => row.virtualtransaction)
}

// A server of its own, since it is killed.
test.skipIf(process.env.TEST_STACK === 'containers')(
  'a transaction that was prepared, renamed by a crash of the server and then committed is not lost',
  async () => {
    await using cleanup = new AsyncDisposableStack()
    const dataFolder = cleanup.use(await openDataFolder())
    const [port = 0] = await findFreePorts(1)
    const password = randomBytes(8).toString('hex')
    const start = () => startPostgres({ dataFolder, port, password })
    let server = await start()
    cleanup.defer(() => server.stop())
    const [url, readUrl] = [server.url('sluice_write'), server.url('sluice_read')]
    await ensureDatabase(server.url(), 'sluice_write')
    await ensureDatabase(server.url(), 'sluice_read')
    await migrate({ writeUrl: url, readUrl, brokers: [], passwords: {}, report: () => {} })

    const [slow, quick] = [await connect(url), await connect(url)]
    const before = await readingSession(url)
    const relay = new ReadingRelay(before)
    await slow.sql('begin')
    await slow.insert({ aggregateId: 'prepared', version: 1 })
    await quick.insert({ aggregateId: 'quick', version: 1 })
    expect(await relay.poll()).toEqual(['quick@1'])
    await relay.poll()
    await slow.sql("prepare transaction 'p'")
    const name = await holderNames(quick)
    expect([...(relay.progress.gaps[0]?.holders ?? [])]).toEqual(name)

    server.kill('SIGKILL')
    await server.exited
    server = await start()

    await using quickAgain = await connect(url)
    await using after = await readingSession(url)
    // What makes this test see: the name by which the gap was held is gone.
    expect(await holderNames(quickAgain)).not.toEqual(name)
    relay.reconnect(after)
    for (let n = 0; n < 4; n += 1) expect(await relay.poll()).toEqual([])
    expect(relay.gaps).toEqual([[1n, 1n]])
    await quickAgain.sql("commit prepared 'p'")
    expect(await relay.poll()).toEqual(['prepared@1'])
    expect(relay.gaps).toEqual([])
  },
  120_000,
)
