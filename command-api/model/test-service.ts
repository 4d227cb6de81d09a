import { randomUUID } from 'node:crypto'
import { Client } from 'pg'
import { testApi, type TestApi, type TestApiSettings } from '../test-api.ts'
import { rules, type Rules } from './test-bank.ts'
import type { Clients } from './test-clients.ts'
import { faultsOf } from './test-history.ts'
import { brokenIn, readLedger } from './test-ledger.ts'
import { Clock } from './test-world.ts'

export type Service = Awaited<ReturnType<typeof openService>>

/** Two servers on one database, which cannot tell them from two processes. */
export async function openService(ofFirst: Partial<TestApiSettings> = {}) {
  const cleanup = new AsyncDisposableStack()
  const clock = new Clock()
  const birth = { now: clock.now, newId: randomUUID }
  const first = cleanup.use(await testApi({ birth, ...ofFirst }))
  const second = cleanup.use(await testApi({ birth, databases: first.databases }))
  const admin = new Client({ connectionString: first.databases.write() })
  await admin.connect()
  cleanup.defer(() => admin.end())
  const apis: readonly [TestApi, TestApi] = [first, second]

  /** Everything that is wrong with what clients were told, and with what is in the tables. */
  async function faultsIn({ prefix, history }: Clients, rule: Rules = rules) {
    const ledger = await readLedger(admin, prefix)
    const rows = new Map(ledger.accounts.map(({ id, version }) => [id, version]))
    return [...faultsOf(rule, history, rows), ...brokenIn(ledger)]
  }

  return { apis, admin, clock, faultsIn, [Symbol.asyncDispose]: () => cleanup.disposeAsync() }
}
