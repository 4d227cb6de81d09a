import { setImmediate as eventLoopTurn, setTimeout as wait } from 'node:timers/promises'
import { isConnectionLost, sqlStateOf } from 'migrations/database'
import type pg from 'pg'
import { backoffMs } from 'service/backoff'
import type { Log } from 'service/log'
import { refusedAnswer, type Answer } from './answer.ts'
import { executeBatch, type CommandRequest, type Outcome, type Unit } from './batch.ts'
import { problem } from './problems.ts'
import { Queue } from './queue.ts'

// Lanes: each is one connection that takes whatever arrived while it was busy. No timer waits for a
// batch to fill, so an idle service adds no delay, and a busy one grows its batches by itself. A lane
// takes its batch when the event loop has gone through all sockets that can be read: else each batch
// after a pause would hold only the first of the requests that came together.

export type ExecutorSettings = {
  pool: pg.Pool
  log: Log
  newId: () => string
  lanes?: number
  batchLimit?: number
  /**
   * Waiting commands beyond this are refused: a queue without end answers nobody. Those of one account
   * beyond half of it, so that a flood on one leaves room for the others.
   */
  queueLimit?: number
  /** How long a command may go on being tried, in milliseconds. */
  patienceMs?: number
}

/** A unit on its way to its answers. It is answered once: what comes later is kept by its keys. */
type Waiting = {
  unit: Unit
  arrival: number
  sinceMs: number
  answered: boolean
  /** Whether the last try found its key held by another transaction. */
  keyHeld: boolean
  resolve: (answers: readonly Answer[]) => void
  reject: (error: unknown) => void
}

const retryBounds = { firstMs: 10, capMs: 500 }
/** How soon a command asks again for a key that another transaction holds. */
const heldKeyPauseMs = 20

/**
 * SQL states after which the same batch may succeed: deadlock, serialization, lock timeout, and two
 * transactions that opened one account id, of which the later finds the account when it looks again.
 */
const transientStates = ['40P01', '40001', '55P03', '23505']

export class Executor {
  readonly #settings: Required<ExecutorSettings>
  readonly #queue = new Queue<Waiting>()
  /** Every command without an answer, the oldest first. */
  readonly #unanswered = new Set<Waiting>()
  #arrivals = 0
  #busyLanes = 0

  constructor(settings: ExecutorSettings) {
    this.#settings = {
      lanes: 2,
      batchLimit: 64,
      queueLimit: 10_000,
      patienceMs: 5_000,
      ...settings,
    }
  }

  /** Commands that wait for a lane. */
  get waiting(): number {
    return this.#queue.length
  }

  /** How long the oldest command has gone without an answer. */
  get oldestMs(): number {
    const [oldest] = this.#unanswered
    return oldest === undefined ? 0 : performance.now() - oldest.sinceMs
  }

  /**
   * Answers a command, its refusal included. Rejects only on a bug. A command whose outcome cannot
   * be known in time is answered 503 `database_unavailable`: it may have happened, and its key
   * brings the truth.
   */
  async submit(request: CommandRequest): Promise<Answer> {
    const [answer] = await this.submitTogether([request])
    return answer as Answer
  }

  /** As `submit`, for commands that all happen or none does; answers in their order. */
  submitTogether(unit: Unit): Promise<readonly Answer[]> {
    const { queueLimit, patienceMs } = this.#settings
    const isFull = this.#queue.length >= queueLimit
    if (isFull || this.#queue.lengthBefore(unit) >= queueLimit / 2) {
      return Promise.resolve(passing('overloaded', unit))
    }
    return new Promise((resolve, reject) => {
      const settle = () => {
        waiting.answered = true
        clearTimeout(deadline)
        this.#unanswered.delete(waiting)
      }
      const waiting: Waiting = {
        unit,
        arrival: (this.#arrivals += 1),
        sinceMs: performance.now(),
        answered: false,
        keyHeld: false,
        resolve: (answers) => resolve((settle(), answers)),
        reject: (error) => reject((settle(), error)),
      }
      // By a timer, because a connection that hangs reports nothing.
      const deadline = setTimeout(() => {
        const code = waiting.keyHeld ? 'idempotency_in_progress' : 'database_unavailable'
        waiting.resolve(passing(code, unit))
      }, patienceMs)
      this.#unanswered.add(waiting)
      this.#enqueue(waiting)
    })
  }

  #enqueue(waiting: Waiting): void {
    this.#queue.push(waiting)
    if (this.#busyLanes >= this.#settings.lanes) return
    this.#busyLanes += 1
    void this.#runLane()
  }

  async #runLane(): Promise<void> {
    try {
      do {
        await eventLoopTurn()
        await this.#run(this.#queue.take(this.#settings.batchLimit))
      } while (this.#queue.length > 0)
    } finally {
      this.#busyLanes -= 1
    }
  }

  /** Brings every command of a batch to an answer, whatever the database does meanwhile. */
  async #run(batch: readonly Waiting[]): Promise<void> {
    for (let failures = 1; batch.length > 0; failures += 1) {
      try {
        return this.#settle(batch, await this.#transaction(batch.map(({ unit }) => unit)))
      } catch (error) {
        if (!isTransient(error)) return this.#isolate(batch, error)
        // A connection lost while committing may have committed. Trying again is safe and tells:
        // the key's lock waits for the lost transaction, and then its answer is found or is not.
        this.#settings.log.warn(
          { event: 'batch_retried', err: error, failures },
          'batch tried again',
        )
        await wait(backoffMs(failures, retryBounds))
        batch = batch.filter((waiting) => !waiting.answered)
      }
    }
  }

  async #transaction(units: readonly Unit[]): Promise<Outcome[]> {
    const client = await this.#settings.pool.connect()
    let failure: Error | undefined
    try {
      return await executeBatch(client, units, this.#settings.newId)
    } catch (error) {
      failure = error as Error
      // Waited for, so that its locks are gone before anything of it is tried again: a command that
      // found its own key held would come after others that came later. A lost connection refuses.
      await client.query('rollback').catch(() => {})
      throw error
    } finally {
      // A connection whose transaction failed is closed, not mended: closing rolls back for sure.
      client.release(failure)
    }
  }

  #settle(batch: readonly Waiting[], outcomes: readonly Outcome[]): void {
    for (const [index, waiting] of batch.entries()) {
      const outcome = outcomes[index]
      if (outcome?.kind === 'answered') waiting.resolve(outcome.answers)
      else if (outcome?.kind === 'key_held') this.#comeAgain(waiting)
      else waiting.reject(outcome?.error)
    }
  }

  #comeAgain(waiting: Waiting): void {
    waiting.keyHeld = true
    setTimeout(() => {
      if (!waiting.answered) this.#enqueue(waiting)
    }, heldKeyPauseMs)
  }

  /** The write was refused: one command at a time, so that only the culprit fails. */
  async #isolate(batch: readonly Waiting[], error: unknown): Promise<void> {
    const [only, ...others] = batch
    if (only !== undefined && others.length === 0) return only.reject(error)
    this.#settings.log.error({ event: 'batch_split', err: error }, 'batch run one by one')
    for (const waiting of batch) await this.#run([waiting])
  }
}

function isTransient(error: unknown): boolean {
  return isConnectionLost(error) || transientStates.includes(sqlStateOf(error) ?? '')
}

/** Answers that hold only for now, and are kept nowhere. */
function passing(
  code: 'overloaded' | 'database_unavailable' | 'idempotency_in_progress',
  unit: Unit,
): readonly Answer[] {
  return unit.map(({ trace }) => ({
    ...refusedAnswer(problem(code), null, trace.traceId),
    retryAfterSeconds: 1,
  }))
}
