import type { Way } from '../handover.ts'
import type { Names } from '../names.ts'
import { dropSlots, requireSeen, withCdc } from '../slots.ts'
import type { Queryable } from '../text-query.ts'
import { ReplicationSession, type Slot } from './replication-session.ts'

export type LogWayOptions = {
  url: string
  db: Queryable
  names: Names
}

/** The next leader removes what could not be removed within it. */
const unmakeMs = 1_500

export type Entered = { session: ReplicationSession; slot: Slot }

/** A walsender of this relay's own, with a temporary slot. */
export function wayToLog(options: LogWayOptions): Way<Entered> {
  const { url, db, names } = options
  const slotName = names.walSlot
  let session: ReplicationSession | undefined
  let begun = false
  const close = async () => session?.[Symbol.asyncDispose]()
  const drop = async (signal: AbortSignal) => {
    const old = { names, upTo: BigInt(names.epoch), endUse: true }
    await withCdc({ url, names, signal }, (client) => dropSlots(client, old))
  }
  return {
    slotName,
    cannot: 'the log cannot be read',
    clear: drop,
    async unmake() {
      await close()
      // Its walsender may wait for a transaction, and see only after seconds that nobody is left.
      if (begun) await drop(AbortSignal.timeout(unmakeMs)).catch(() => {})
    },
    async make(signal) {
      session = await ReplicationSession.open(url)
      // Whatever it waits for ends with it.
      signal.addEventListener('abort', () => void close(), { once: true })
      signal.throwIfAborted()
      begun = true
      const slot = await session.createSlot(slotName)
      await requireSeen(db, slotName)
      return { session, slot }
    },
  }
}
