// One walsender: a slot made and streamed from on the same connection. The slot is temporary: it goes
// when the connection does, so that no relay that died keeps the server from removing its log. What was
// missed meanwhile is in the table, and every start reads it there first (`../handover.ts`).
//
// Messages within CopyData (PostgreSQL documentation, "Streaming Replication Protocol"):
//
//   to us    'w' lsn64 start, lsn64 end, int64 time, then a message of the plugin
//            'k' lsn64 end of the log as sent, int64 time, int8 1 = answer at once
//   from us  'r' lsn64 written, lsn64 flushed, lsn64 applied, int64 time, int8 1 = answer at once
import { replicationClient, sqlStateOf } from 'migrations/database'
import type pg from 'pg'
import { RelayError } from '../errors.ts'
import { formatLsn, type Lsn, parseLsn } from './lsn.ts'

/**
 * Text of values as the wire contract needs it, and nothing that is given up half-way: to make a slot
 * waits for transactions, and to decode a large one is a transaction itself, as long as Kafka takes.
 */
const sessionSettings = {
  timezone: 'UTC',
  datestyle: 'ISO',
  statement_timeout: '0',
  lock_timeout: '0',
  transaction_timeout: '0',
  idle_session_timeout: '0',
  // While it passes over a large transaction of others, a walsender listens to us only after half of
  // this since it last did: the default of a minute would look like silence.
  wal_sender_timeout: '10s',
  // While it makes a slot, the server waits for transactions, and would not see that we are gone.
  client_connection_check_interval: '1s',
}

/** How often the server is told how far we are, and asked to show that it is there. */
const statusIntervalMs = 1_000
/** A server that has been asked this long and said nothing is gone, whatever its socket says. */
const defaultSilenceMs = 10_000
/** Between PostgreSQL's epoch (2000) and Unix's, in microseconds. */
const epochOffsetUs = 946_684_800_000_000n

export type ReplicationHandlers = {
  /** A message of the plugin; its bytes are only valid until this returns. Whatever it throws ends the stream. */
  onMessage: (bytes: Buffer) => void
  /** A keepalive: everything before `end` that concerns us was sent. */
  onKeepalive: (end: Lsn) => void
  /** How far the server may forget. */
  settled: () => Lsn
}

/** pg keeps these to itself, and documents no other way to a CopyBoth. */
type CopyConnection = NodeJS.EventEmitter & {
  stream: { pause(): void; resume(): void; destroy(): void; isPaused(): boolean }
  sendCopyFromChunk(chunk: Buffer): void
}

export type ReplicationOptions = { silenceMs?: number }

export type Slot = { name: string; consistentPoint: Lsn }

export class ReplicationSession {
  readonly #client: pg.Client
  readonly #connection: CopyConnection
  readonly #silenceMs: number
  readonly #ended = Promise.withResolvers<never>()
  #timer: NodeJS.Timeout | undefined
  #handlers: ReplicationHandlers | undefined
  #heardMs = 0
  #paused = false

  private constructor(client: pg.Client, { silenceMs = defaultSilenceMs }: ReplicationOptions) {
    this.#client = client
    this.#silenceMs = silenceMs
    this.#connection = (client as unknown as { connection: CopyConnection }).connection
    this.#ended.promise.catch(() => {})
    client.on('error', (error) => this.#fail(error))
    client.on('end', () => this.#fail(new Error('the server closed the connection')))
  }

  /** Connects. Throws what the server or the network says. */
  static async open(url: string, options: ReplicationOptions = {}): Promise<ReplicationSession> {
    const client = replicationClient({
      url,
      applicationName: 'sluice-relay-wal',
      settings: sessionSettings,
    })
    const session = new ReplicationSession(client, options)
    await client.connect()
    return session
  }

  /**
   * Makes the slot. Waits until every transaction that was running has ended, however long that is;
   * closing the session ends the wait, soon. By SQL, since the protocol's own command listens to nobody
   * while it waits. Throws `slot_unusable`, saying what to set.
   */
  async createSlot(name: string): Promise<Slot> {
    try {
      const { rows } = await this.#client.query<{ lsn: string }>(
        `select lsn from pg_create_logical_replication_slot('${identifier(name)}', 'pgoutput', true)`,
      )
      return { name, consistentPoint: parseLsn(rows[0]?.lsn ?? '') }
    } catch (error) {
      throw slotProblem(error)
    }
  }

  /** Streams from the slot's consistent point on. Resolves never; rejects when the stream ends. */
  async stream(slot: Slot, publication: string, handlers: ReplicationHandlers): Promise<never> {
    this.#handlers = handlers
    this.#heardMs = performance.now()
    this.#connection.on('copyData', ({ chunk }: { chunk: Buffer }) => this.#receive(chunk))
    this.#timer = setInterval(() => this.#tick(), statusIntervalMs)
    this.#client
      .query(
        `START_REPLICATION SLOT ${identifier(slot.name)} LOGICAL ${formatLsn(slot.consistentPoint)} ` +
          `(proto_version '1', publication_names '${identifier(publication)}')`,
      )
      .then(
        () => this.#fail(new Error('the server ended the stream')),
        (error: unknown) => this.#fail(error),
      )
    return this.#ended.promise
  }

  /** Reads nothing more until `resume`; the server is still told that we are here. */
  pause(): void {
    this.#paused = true
    this.#connection.stream.pause()
  }

  resume(): void {
    this.#paused = false
    this.#heardMs = performance.now()
    this.#connection.stream.resume()
  }

  get paused(): boolean {
    return this.#paused
  }

  /** Ends the session now, whatever it waits for; the slot goes with it. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#fail(new Error('closed'))
    // A walsender in the middle of its copy knows no goodbye that is worth waiting for.
    this.#connection.stream.destroy()
    await this.#client.end().catch(() => {})
  }

  #receive(chunk: Buffer): void {
    if (this.#handlers === undefined) return
    this.#heardMs = performance.now()
    try {
      if (chunk[0] === 0x77) return this.#handlers.onMessage(chunk.subarray(25))
      if (chunk[0] !== 0x6b) return
      this.#handlers.onKeepalive(chunk.readBigUInt64BE(1))
      if (chunk[17] === 1) this.#sendStatus(false)
    } catch (error) {
      this.#fail(error)
    }
  }

  #tick(): void {
    // What is paused hears nothing, by its own choice.
    const silentMs = this.#paused ? 0 : performance.now() - this.#heardMs
    if (silentMs > this.#silenceMs) {
      return this.#fail(new Error(`the server has said nothing for ${Math.round(silentMs)} ms`))
    }
    this.#sendStatus(true)
  }

  #sendStatus(answerWanted: boolean): void {
    if (this.#handlers === undefined) return
    const settled = this.#handlers.settled()
    const status = Buffer.allocUnsafe(34)
    status[0] = 0x72
    for (const at of [1, 9, 17]) status.writeBigUInt64BE(settled, at)
    status.writeBigInt64BE(BigInt(Date.now()) * 1_000n - epochOffsetUs, 25)
    status[33] = answerWanted ? 1 : 0
    this.#connection.sendCopyFromChunk(status)
  }

  #fail(error: unknown): void {
    clearInterval(this.#timer)
    this.#handlers = undefined
    this.#ended.reject(
      error instanceof RelayError
        ? error
        : new RelayError('stream_lost', `replication ended: ${messageOf(error)}`, { cause: error }),
    )
    this.#connection.stream.destroy()
  }
}

/** START_REPLICATION takes no parameters: only what needs no quoting is let through. */
function identifier(name: string): string {
  if (!/^[a-z0-9_]{1,63}$/.test(name)) throw new TypeError(`not a name for a slot: ${name}`)
  return name
}

const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error))

/** A server that cannot give a slot, with what to set there. */
export function slotProblem(error: unknown): unknown {
  const state = sqlStateOf(error)
  const advice: Record<string, string> = {
    '53400': 'all replication slots are in use: raise max_replication_slots, or drop one',
    '55000': 'the server must run with wal_level = logical',
    '42501': 'the role of CDC_DATABASE_URL needs REPLICATION',
  }
  const what = advice[state ?? '']
  if (what === undefined) return error
  return new RelayError('slot_unusable', `${what} (${messageOf(error)})`, { cause: error })
}
