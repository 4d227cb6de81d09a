import type { ApiRequest } from 'service/route'
import { expect, test } from 'vitest'
import { readCourse } from './switch-table.ts'
import { switchRoutes } from './switching.ts'
import { park, testOutbox } from './test-outbox.ts'

test.each(['customer', 'teller', 'auditor', 'service'] as const)(
  'a %s may not switch, nor cancel',
  async (role) => {
    await using outbox = await testOutbox()
    const before = await readCourse(outbox.pool)
    for (const route of switchRoutes(outbox.pool, {})) {
      const request = { caller: { name: 'x', role }, body: { mode: 'polling' } } as ApiRequest
      await expect(route.handle(request)).rejects.toMatchObject({ code: 'not_allowed' })
    }
    expect(await readCourse(outbox.pool)).toEqual(before)
  },
)

test('a connector is not asked for while anything is parked', async () => {
  await using outbox = await testOutbox()
  await park(outbox)
  const before = await readCourse(outbox.pool)
  const config = { CDC_DATABASE_URL: outbox.cdcUrl, CONNECT_URL: 'http://127.0.0.1:9' }
  const [put] = switchRoutes(outbox.pool, config)
  const asked = (mode: string) =>
    put!.handle({ caller: { name: 'x', role: 'operator' }, body: { mode } } as ApiRequest)
  await expect(asked('debezium')).rejects.toMatchObject({ code: 'aggregates_parked' })
  expect(await readCourse(outbox.pool)).toEqual(before)
  const asks = `select from outbox.audit where action = 'switch_asked'`
  expect((await outbox.pool.query(asks)).rowCount).toBe(0)
  await expect(asked('wal')).resolves.toMatchObject({ status: 202 })
  expect((await outbox.pool.query(asks)).rowCount).toBe(1)
})
