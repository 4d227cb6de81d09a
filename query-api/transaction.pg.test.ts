import { testDatabases } from 'local-stack/test-databases'
import { openPool } from 'migrations/database'
import { afterAll, expect, test } from 'vitest'
import { inTransaction } from './transaction.ts'

// On both kinds of pool: what is sent without waiting must not fail unseen.

const cleanup = new AsyncDisposableStack()
const databases = cleanup.use(await testDatabases())
afterAll(() => cleanup.disposeAsync())

const insert = (name: string) => ({
  text: `insert into read.audit (caller, role, action, projection, account_id, before, after)
    values ($1, 'operator', 'skip', 'accounts', 'a', '{}', '{}')`,
  values: [name],
})
const fails = { text: 'select 1 / 0' }

describeEach(true)
describeEach(false)

function describeEach(pipeline: boolean): void {
  const kind = pipeline ? 'with pipeline' : 'without'
  const pool = cleanup.use(
    openPool({
      url: databases.read('sluice_projector'),
      applicationName: 'test',
      maxConnections: 2,
      pipeline,
      onError: () => {},
    }),
  )
  const admin = cleanup.use(
    openPool({
      url: databases.read(),
      applicationName: 'test',
      maxConnections: 1,
      onError: () => {},
    }),
  )
  const written = async (name: string) =>
    (await admin.query('select from read.audit where caller = $1', [name])).rowCount

  test(`what is sent is there after the commit, in order (${kind})`, async () => {
    const name = `sent-${kind}`
    const rowCount = await inTransaction(pool, 5_000, async (transaction) => {
      transaction.send(insert(name))
      const { rows } = await transaction.query<{ count: number }>(
        'select count(*)::int as count from read.audit where caller = $1',
        [name],
      )
      transaction.send(insert(name))
      return rows[0]?.count
    })
    expect(rowCount).toBe(1)
    expect(await written(name)).toBe(2)
  })

  test(`a statement sent that fails is thrown, and nothing stays (${kind})`, async () => {
    const name = `failed-${kind}`
    const work = inTransaction(pool, 5_000, async (transaction) => {
      transaction.send(insert(name))
      transaction.send(fails)
      transaction.send(insert(name))
    })
    await expect(work).rejects.toMatchObject({ code: '22012' })
    expect(await written(name)).toBe(0)
  })

  test(`of a statement sent and one behind it, the first to fail is thrown (${kind})`, async () => {
    const work = inTransaction(pool, 5_000, async (transaction) => {
      transaction.send(fails)
      await transaction.query('select 1')
    })
    await expect(work).rejects.toMatchObject({ code: '22012' })
  })
}
