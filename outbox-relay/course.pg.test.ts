import { waitUntil } from 'local-stack/wait-until'
import { expect, test } from 'vitest'
import { Course } from './course.ts'
import { awaitLease } from './lease.ts'
import type { Mode } from './modes.ts'
import { askForMode, readCourse } from './switch-table.ts'
import { testOutbox, type TestOutbox } from './test-outbox.ts'
import type { Queryable } from './text-query.ts'

const wanted = (mode: Mode | null) => ({ mode, actor: 'otto', reason: null })

/** A leadership on its way to wal, which looks at the row only while `eyes` are open. */
async function openCourse({ pool }: TestOutbox) {
  await using cleanup = new AsyncDisposableStack()
  const stop = new AbortController()
  const options = { db: pool, me: 'relay-1', leaseMs: 5_000, onRenewalFailed: () => {} }
  const now = () => performance.now()
  const lease = await awaitLease({ ...options, now }, stop.signal)
  if (lease === undefined) throw new Error('stopped before it led')
  cleanup.use(lease)
  await askForMode(pool, wanted('wal'))
  const eyes = { open: Promise.withResolvers<void>() }
  cleanup.defer(() => eyes.open.resolve())
  const db = {
    async query(config: { name: string }) {
      const isLook = config.name === 'relay-course'
      if (isLook) await eyes.open.promise
      return pool.query(config as never)
    },
  } as unknown as Queryable
  const course = new Course({
    db,
    lease,
    row: await readCourse(pool),
    whyNot: () => undefined,
    refused: () => {},
    waitingFor: () => null,
  })
  cleanup.use(course)
  const kept = cleanup.move()
  return { course, eyes, [Symbol.asyncDispose]: () => kept.disposeAsync() }
}

const isThere = (pool: TestOutbox['pool'], mode: Mode) => async () => {
  const row = await readCourse(pool)
  return row.switching === null && row.mode === mode
}

test('called off and asked for again between two looks, a switch that has arrived ends', async () => {
  await using outbox = await testOutbox()
  const { pool } = outbox
  await using leading = await openCourse(outbox)
  await askForMode(pool, wanted(null))
  await leading.course.arrived('wal')
  await askForMode(pool, wanted('wal'))
  expect(await isThere(pool, 'wal')()).toBe(false)
  leading.eyes.open.resolve()
  await waitUntil(isThere(pool, 'wal'), { what: 'the end of the switch', deadlineMs: 10_000 })
  expect(leading.course.left.aborted).toBe(false)
})

test('the sender of a mode that is to be left again ends no switch to another one', async () => {
  await using outbox = await testOutbox()
  const { pool } = outbox
  await using leading = await openCourse(outbox)
  const { left } = leading.course
  await askForMode(pool, wanted('debezium'))
  leading.eyes.open.resolve()
  await waitUntil(() => left.aborted, { what: 'the course to turn', deadlineMs: 10_000 })
  await leading.course.arrived('wal')
  const { mode, switching } = await readCourse(pool)
  expect({ mode, to: switching?.to }).toEqual({ mode: 'polling', to: 'debezium' })
})
