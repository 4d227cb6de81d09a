import { findJava, waitUntil } from 'local-stack'
import { pause } from 'service/backoff'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { DrillStack } from './stack.ts'

// What `/readyz` of query-api is for: a stage of the pipe is killed, or lives and passes nothing on,
// and within 15 s it says so and names the stage; within 15 s of the stage's return it is ready. The
// services have their own timeouts here, since these are what it depends on.

const limitMs = 15_000
/** Beyond every limit of the heartbeats, so that all has to come back and every wait is at its longest. */
const awayMs = 35_000

type Stage = {
  away(stack: DrillStack): Promise<void> | void
  back(stack: DrillStack): Promise<void> | void
  /** The stage by its name. What does not answer must be this. */
  named: RegExp
}

const service = (name: 'command-api' | 'outbox-relay'): Stage => ({
  away: ({ services }) => services[name].killForGood(),
  back: ({ services }) => services[name].start(),
  named: new RegExp(`^${name} does not answer`),
})
const postgres = (side: 'write' | 'read'): Stage => ({
  away: (stack) => stack.postgres[side].kill(),
  back: (stack) => stack.postgres[side].startAgain(),
  named: new RegExp(`the ${side} database does not answer`),
})
const silent = (line: 'relay-kafka' | 'query-kafka', named: RegExp): Stage => ({
  away: ({ lines }) => lines[line].begin({ kind: 'half-open' }),
  back: ({ lines }) => lines[line].heal(),
  named,
})

const stages: Record<string, Stage> = {
  'command-api killed': service('command-api'),
  'outbox-relay killed': service('outbox-relay'),
  'outbox-relay stuck': {
    ...service('outbox-relay'),
    away: ({ services }) => services['outbox-relay'].kill('SIGSTOP'),
    back: ({ services }) => services['outbox-relay'].kill('SIGCONT'),
  },
  'Kafka killed': {
    away: ({ kafka }) => kafka.kill(),
    back: ({ kafka }) => kafka.startAgain(),
    named: /from Kafka/,
  },
  'PostgreSQL of the write side killed': postgres('write'),
  'PostgreSQL of the read side killed': postgres('read'),
  'the line from the relay to Kafka silent': silent('relay-kafka', /^outbox-relay .* into Kafka/),
  'the line from query-api to Kafka silent': silent('query-kafka', /from Kafka/),
}

type Answer = { status: number; late: string[] }

async function readyz({ services }: DrillStack): Promise<Answer> {
  const signal = AbortSignal.timeout(8_000)
  const response = await fetch(`${services['query-api'].url}/readyz`, { signal })
  const { late } = (await response.json()) as { late: string[] }
  return { status: response.status, late }
}

/** Milliseconds until it answers so. */
async function until(
  stack: DrillStack,
  what: string,
  isSo: (answer: Answer) => boolean,
  deadlineMs = limitMs,
): Promise<number> {
  const startedMs = performance.now()
  let last: Answer | undefined
  await waitUntil(async () => isSo((last = await readyz(stack))), {
    what,
    deadlineMs,
    intervalMs: 200,
  }).catch((error: Error) => {
    throw new Error(`${error.message}; it says ${JSON.stringify(last)}`)
  })
  return Math.round(performance.now() - startedMs)
}

const isReady = ({ status }: Answer) => status === 200

describe.skipIf('missing' in findJava(process.env))('/readyz of query-api', () => {
  let stack: DrillStack
  beforeAll(async () => {
    stack = await DrillStack.start({ readServer: true, asShipped: true })
  }, 120_000)
  afterAll(() => stack[Symbol.asyncDispose]())

  test.each(Object.entries(stages))(
    '%s: it says so within 15 s, and is ready within 15 s of its return',
    async (name, { away, back, named }) => {
      await until(stack, 'it to be ready', isReady, 60_000)
      await away(stack)
      const sinceMs = performance.now()
      let noticedMs = Infinity
      try {
        noticedMs = await until(
          stack,
          `${name} to be named`,
          ({ status, late }) => status === 503 && late.some((sentence) => named.test(sentence)),
        )
        await pause(awayMs - (performance.now() - sinceMs))
        const { late } = await readyz(stack)
        expect(late.filter((said) => said.includes('not answer') && !named.test(said))).toEqual([])
      } finally {
        // Else the stages behind it would fail for this one.
        await back(stack)
      }
      const readyMs = await until(stack, 'it to be ready again', isReady)
      process.stdout.write(`${name}: named after ${noticedMs} ms, ready after ${readyMs} ms\n`)
    },
    150_000,
  )

  test('the lag of every projection and partition is told, in events and seconds', async () => {
    await until(stack, 'it to be ready', isReady, 60_000)
    const { url } = stack.services['query-api']
    const lags = await waitUntil(
      async () => {
        const { items } = (await (await fetch(`${url}/projections`)).json()) as { items: Report[] }
        const all = items.flatMap(({ name, partitions }) => {
          expect([name, partitions.length]).toEqual([name, 12])
          return partitions
        })
        return all.every(({ lag, lagSeconds }) => lag !== null && lagSeconds !== null) && all
      },
      { what: 'every lag to be known', deadlineMs: 20_000 },
    )
    expect(lags.every(({ lag, lagSeconds }) => lag >= 0 && lagSeconds < 30)).toBe(true)
    const metrics = await (await fetch(`${url}/metrics`)).text()
    for (const what of ['events', 'seconds']) {
      const said = metrics.match(new RegExp(`^sluice_projection_lag_${what}{.*"accounts".*$`, 'gm'))
      expect(said).toHaveLength(12)
    }
  })
})

type Report = { name: string; partitions: { lag: number; lagSeconds: number }[] }
