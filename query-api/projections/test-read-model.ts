// What tests of one read model share: a database of its own, its projection, and its routes.
import { testDatabases } from 'local-stack/test-databases'
import { databaseOver } from 'migrations/database'
import type { ReadDatabase } from 'migrations/read'
import type { OutboxRow } from 'outbox-relay/wire'
import type { ApiAnswer, ApiRequest } from 'service/route'
import { openFreshnesses } from '../freshness.ts'
import type { ProjectedEvent } from '../projection.ts'
import { projected } from '../test-events.ts'
import { openProjectorPool, openReaderPool } from '../test-pools.ts'
import { inTransaction } from '../transaction.ts'
import type { ReadModel } from './table.ts'

const deadlineMs = 20_000

export async function openReadModel({ projection, routes }: ReadModel) {
  const cleanup = new AsyncDisposableStack()
  const databases = cleanup.use(await testDatabases())
  const pool = cleanup.use(openProjectorPool(databases))
  const reader = cleanup.use(openReaderPool(databases))
  const control = new AbortController()
  cleanup.defer(() => control.abort())
  const freshness = openFreshnesses(reader, control)
  const all = routes({
    reader,
    database: databaseOver<ReadDatabase>(reader),
    freshnessOf: freshness.of,
    cursorSecret: 'x'.repeat(32),
  })

  async function get(
    path: string,
    { params = {}, query = {}, headers = {} }: Record<string, Record<string, string>> = {},
  ): Promise<ApiAnswer> {
    const route = all.find((each) => each.path === path)
    if (route === undefined) throw new Error(`no route ${path}`)
    const header = (name: string) => headers[name]
    const { signal } = control
    return route.handle({ params, query, header, signal } as unknown as ApiRequest)
  }

  return {
    pool,
    reader,
    url: databases.read(),
    paths: all.map(({ path }) => path),
    get,
    /** The body of an answer, which is expected to be one. */
    async body(...question: Parameters<typeof get>): Promise<Record<string, unknown>> {
      return (await get(...question)).body as Record<string, unknown>
    },
    apply: (rows: readonly OutboxRow[]) =>
      inTransaction(pool, deadlineMs, (transaction) =>
        projection.apply(transaction, rows.map(projected), 'log'),
      ),
    /** As a repair does after a conflict: from nothing, by what the feed says. */
    rebuild: (account: string, events: readonly ProjectedEvent[]) =>
      inTransaction(pool, deadlineMs, async (transaction) => {
        await projection.forget(transaction, account)
        return projection.apply(transaction, events)
      }),
    versions: (accounts: readonly string[]) => projection.versions(reader, accounts),
    [Symbol.asyncDispose]: () => cleanup.disposeAsync(),
  }
}
