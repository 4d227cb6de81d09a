import { randomInt } from 'node:crypto'
import { pause } from 'service/backoff'
import { expect, test } from 'vitest'
import { connect } from '../test-outbox.ts'
import { seededRandom } from '../test-writers.ts'
import { ownServer } from './test-own-server.ts'
import { besideWriters, eventsInNeither } from './test-slot-creation.ts'

// 500 slots made under 24 writers, on a server whose commits are held now and then, as by a standby
// that is slow: that is when a commit is written and not yet visible. They are entered as a relay does
// it. The same run with the table read as soon as there is a slot shows that events could be lost.

const given = process.env.SLOTS_SEED
const seed = given === undefined ? randomInt(1_000_000_000) : Number(given)

/** A standby that nobody is, wanted and not wanted in turn: it holds commits for some milliseconds. */
async function holdCommits(url: string, signal: AbortSignal): Promise<void> {
  await using admin = await connect(url, { synchronous_commit: 'local' })
  const random = seededRandom(seed)
  while (!signal.aborted) {
    for (const name of ['nobody', '']) {
      await admin.sql(`alter system set synchronous_standby_names = '${name}'`)
      await admin.sql('select pg_reload_conf()')
      await pause(5 + random() * 60, name === '' ? signal : undefined)
    }
  }
}

test(
  '500 slots lose no event, and slots that wait for nobody lose some',
  { timeout: 900_000 },
  async () => {
    await using server = await ownServer()
    const { url } = server
    const sum = (counts: readonly number[]) => counts.reduce((total, count) => total + count, 0)
    const ended = new AbortController()
    const holding = holdCommits(url, ended.signal)
    try {
      const [waited, control] = await besideWriters({ url, writers: 24, seed }, async () => [
        await eventsInNeither({ url, creations: 500, enters: 'handover' }),
        await eventsInNeither({ url, creations: 200, enters: 'at once' }),
      ])
      process.stdout.write(
        `seed ${seed}: lost ${sum(waited ?? [])} in 500 creations; without the wait ${sum(control ?? [])} in 200\n`,
      )
      expect(sum(waited ?? []), `seed ${seed}`).toBe(0)
      expect(sum(control ?? []), `seed ${seed}: the run could not see a loss`).toBeGreaterThan(0)
    } finally {
      ended.abort()
      await holding
    }
  },
)
