import { waitUntil } from 'local-stack'
import pg from 'pg'

/** Who leads, by the row; `pid` is that of the process. */
export type Led = { epoch: bigint; pid: number; next: bigint }
/** Milliseconds until another had the lease, and until it had published and saved something. */
export type Takeover = { leaseMs: number; sendingMs: number }

/** Looks at the lease over a connection that stays, so that a look costs nothing against a lease. */
export class LeaderWatch {
  readonly #client: pg.Client

  private constructor(client: pg.Client) {
    this.#client = client
  }

  static async open(writeUrl: string): Promise<LeaderWatch> {
    const client = new pg.Client({ connectionString: writeUrl })
    client.on('error', () => {}) // The query reports it.
    await client.connect()
    return new LeaderWatch(client)
  }

  async look(): Promise<Led> {
    const { rows } = await this.#client.query<{ epoch: string; leader: string; next: string }>(
      `select epoch, coalesce(leader, '') as leader, next_position as next from outbox.relay`,
    )
    const { epoch = '0', leader = '', next = '0' } = rows[0] ?? {}
    return { epoch: BigInt(epoch), pid: Number(leader.split(':')[1] ?? 0), next: BigInt(next) }
  }

  /** From `fromMs` of `performance.now` until a later epoch than `before` publishes. */
  async takenOver(before: Led, fromMs: number, deadlineMs: number): Promise<Takeover> {
    const until = async (what: string, is: (led: Led) => boolean) => {
      let seen = before
      const look = async () => is((seen = await this.look()))
      await waitUntil(look, { what, deadlineMs, intervalMs: 5 })
      return { seen, afterMs: performance.now() - fromMs }
    }
    const taken = await until('another relay to lead', ({ epoch }) => epoch > before.epoch)
    const sent = await until('it to publish', ({ next }) => next > taken.seen.next)
    return { leaseMs: taken.afterMs, sendingMs: sent.afterMs }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client.end()
  }
}
