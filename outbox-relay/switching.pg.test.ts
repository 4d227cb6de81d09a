import type { ApiRequest } from 'service/route'
import { expect, test } from 'vitest'
import { readCourse } from './switch-table.ts'
import { switchRoutes } from './switching.ts'
import { testOutbox } from './test-outbox.ts'

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
