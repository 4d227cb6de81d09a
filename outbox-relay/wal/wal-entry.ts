import { RelayError } from '../errors.ts'
import type { Way } from '../handover.ts'
import { dropSlots, withCdc } from '../slots.ts'
import type { Queryable } from '../text-query.ts'
import { ReplicationSession, type Slot } from './replication-session.ts'
import { readSlot } from './slot.ts'

export type LogWayOptions = {
  url: string
  db: Queryable
  /** In the slot's name too: slots of later epochs are never touched. */
  epoch: string
  slotName: string
}

/** The next leader removes what could not be removed within it. */
const unmakeMs = 1_500

export type Entered = { session: ReplicationSession; slot: Slot }

/** A walsender of this relay's own, with a temporary slot. */
export function wayToLog(options: LogWayOptions): Way<Entered> {
  const { url, db, epoch, slotName } = options
  let session: ReplicationSession | undefined
  let begun = false
  const close = async () => session?.[Symbol.asyncDispose]()
  const drop = (signal: AbortSignal) =>
    withCdc({ url, signal }, (client) => dropSlots(client, { upTo: epoch, endUse: true }))
  return {
    slotName,
    cannot: 'the log cannot be read',
    clear: drop,
    async unmake() {
      await close()
      // Its walsender may wait for a transaction, and not see that nobody is left.
      if (begun) await drop(AbortSignal.timeout(unmakeMs)).catch(() => {})
    },
    async make(signal) {
      session = await ReplicationSession.open(url)
      // Whatever it waits for ends with it.
      signal.addEventListener('abort', () => void close(), { once: true })
      signal.throwIfAborted()
      begun = true
      const slot = await session.createSlot(slotName)
      if ((await readSlot(db, slotName)) !== undefined) return { session, slot }
      throw new RelayError(
        'slot_unusable',
        `slot ${slotName} was made and is not to be seen from the write database: ` +
          'CDC_DATABASE_URL leads to another server or database than WRITE_DATABASE_URL',
      )
    },
  }
}
