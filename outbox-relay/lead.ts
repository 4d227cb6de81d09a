import type { Config } from './config.ts'
import { leadByConnector } from './debezium/debezium-mode.ts'
import type { Leadership } from './leadership.ts'
import { Sweep, sweepIntervalMs } from './leftovers.ts'
import { poll } from './polling.ts'
import type { Progress } from './progress.ts'
import { noteSource } from './relay-state.ts'
import { leadByLog, type WalHistory } from './wal/wal-mode.ts'

// A switch from one mode to another goes by way of polling, which sends from the progress that the mode
// before has left until the handover to the mode after. So there is one way out of each mode and one way
// into it, the same at a start, at a switch, and for a successor. Each sender begins where everything
// before is confirmed: what comes twice comes in order.

export type Leading = {
  config: Pick<Config, 'CDC_DATABASE_URL' | 'CONNECT_URL' | 'KAFKA_BROKERS' | 'RELAY_STANDSTILL_MS'>
  history: WalHistory
}

/** Leads in the mode that is wanted, and goes over when that is another, until the process is to stop. */
export async function lead(leadership: Leadership, leading: Leading): Promise<void> {
  const { course, stop } = leadership
  let { start } = leadership.polling
  while (!stop.aborted) {
    const until = AbortSignal.any([stop, course.left])
    const polling = { ...leadership.polling, start, stop: until }
    start = await leadOneMode({ ...leadership, polling, stop: until }, leading)
  }
}

/** Returns what is published when the mode is left. */
async function leadOneMode(
  leadership: Leadership,
  { config, history }: Leading,
): Promise<Progress> {
  const { course, lease, names, notes } = leadership
  const { CDC_DATABASE_URL: cdcUrl, CONNECT_URL: connectUrl } = config
  const { goal } = course
  await using beside = new AsyncDisposableStack()
  const sweep = (inUse: readonly string[], firstPauseMs = 0) =>
    beside.use(new Sweep({ lease, names, log: notes.log, connectUrl, cdcUrl, inUse, firstPauseMs }))
  if (goal === 'debezium' && cdcUrl !== undefined && connectUrl !== undefined) {
    // The way to a connector begins by it.
    sweep([names.slot, names.connector], sweepIntervalMs)
    const { RELAY_STANDSTILL_MS: standstillMs, KAFKA_BROKERS: brokers } = config
    return await leadByConnector(leadership, { brokers, cdcUrl, connectUrl, standstillMs })
  }
  if (goal === 'wal' && cdcUrl !== undefined) {
    sweep([names.walSlot])
    return await leadByLog(leadership, { url: cdcUrl, history })
  }
  sweep([])
  noteSource(notes, 'polling')
  await course.arrived('polling')
  return await poll(leadership.polling)
}
