import { randomUUID } from 'node:crypto'
import { testDatabases } from 'local-stack/test-databases'
import { openPool } from 'migrations/database'
import { openLog } from 'service/log'
import type { ApiRequest } from 'service/route'
import { afterAll, expect, test } from 'vitest'
import { accounts } from '../projections/accounts.ts'
import { ensureOffsets } from '../offsets.ts'
import { openFeed } from '../quarantine/feed.ts'
import { Repairer } from '../quarantine/repairer.ts'
import { newStatus } from '../status.ts'
import { partitionRoutes } from './routes.ts'
import { putStop, readStops } from './stops.ts'

const cleanup = new AsyncDisposableStack()
afterAll(() => cleanup.disposeAsync())
const databases = cleanup.use(await testDatabases())
const pool = cleanup.use(
  openPool({
    url: databases.read('sluice_projector'),
    applicationName: 'test',
    maxConnections: 2,
    onError: () => {},
  }),
)
const status = newStatus('accounts')
const { signal } = new AbortController()
const log = openLog('query-api', 'silent')
const dead = openFeed({ url: 'http://127.0.0.1:9', key: 'sluice_key' })

type Asked = { partition?: string; body?: unknown; role?: string; withFeed?: boolean }

async function ask({ partition = '3', body, role = 'operator', withFeed = true }: Asked = {}) {
  const shared = { pool, projection: accounts, status: newStatus('accounts'), signal, log }
  const repairer = new Repairer({ ...shared, feed: withFeed ? dead : undefined })
  const repairers = [{ projection: accounts, repairer }]
  const [route] = partitionRoutes({ pool, statuses: [status], repairers })
  return route!.handle({
    caller: { name: 'olga', role },
    params: { name: 'accounts', partition },
    query: {},
    body: body ?? { reason: 'ticket 7: the topic was made anew by us' },
  } as unknown as ApiRequest)
}

async function stop(partition: number): Promise<void> {
  const [topicId, foundTopicId] = [randomUUID(), randomUUID()]
  const place = { projection: 'accounts', topic: status.topic, partition }
  await ensureOffsets(pool, { ...place, topicId }, [partition])
  const fault = { code: 'topic_recreated', detail: 'made anew', offset: 0n } as const
  await putStop(pool, place, { ...fault, topicId, foundTopicId })
}

const isAsked = async (partition: number) => (await readStops(pool, status)).get(partition)?.asked

test('an operator asks for the repair of a partition that stands still, with a reason', async () => {
  await stop(3)
  await stop(4)
  expect(await ask()).toEqual({
    status: 202,
    body: { partition: 3, code: 'topic_recreated' },
  })
  expect([await isAsked(3), await isAsked(4)]).toEqual([true, false])
})

test('nothing is asked for without a reason, by others, or of what goes on', async () => {
  await stop(5)
  const five = { partition: '5' }
  await expect(ask({ ...five, body: {} })).rejects.toMatchObject({ code: 'invalid_request' })
  await expect(ask({ ...five, role: 'teller' })).rejects.toMatchObject({ code: 'not_allowed' })
  await expect(ask({ partition: '-1' })).rejects.toMatchObject({ code: 'invalid_request' })
  await expect(ask({ partition: '6' })).rejects.toMatchObject({ code: 'partition_not_stopped' })
  await pool.query(`update read.offsets set next_offset = 9 where partition = 5`)
  await expect(ask(five)).rejects.toMatchObject({ code: 'partition_not_stopped' })
  expect(await isAsked(5)).toBeUndefined()
})

test('without the feed it is said what to set, and nothing is asked for', async () => {
  await stop(7)
  await expect(ask({ partition: '7', withFeed: false })).rejects.toMatchObject({
    code: 'feed_missing',
    details: { detail: expect.stringContaining('COMMAND_API_URL') },
  })
  expect(await isAsked(7)).toBe(false)
})
