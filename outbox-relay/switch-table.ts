import { RelayError } from './errors.ts'
import type { Mode } from './modes.ts'
import { type Queryable, queryText } from './text-query.ts'

// The switch in outbox.relay: asked for by whoever may, under whatever leader there is; led to its end
// by the leader, under its epoch. What is written of it in outbox.audit is written by the same statement.

/** Before each of these actions outside the leader writes its name. */
export type Step =
  /** The present sender stops; what it has in flight is confirmed and saved. */
  | 'leave'
  | 'remove connector'
  | 'drop slot'
  | 'remove leftovers'
  /** Polling sends until it has caught up. */
  | 'catch up'
  | 'make slot'
  | 'make connector'
  | 'set offsets'
  | 'wait for writers'
  /** Polling has sent all that the new sender will not. */
  | 'begin'

const timeoutMs = 5_000

/** A switch under way. */
type Switching = {
  to: Mode
  /** Null until the leader has begun with it. */
  step: Step | null
  /** Since it was asked for, by the server's clock. */
  sinceMs: number
  waitingFor: string | null
}

/** Where the relay is, and where it is going. */
export type CourseRow = { epoch: string; mode: Mode; switching: Switching | null }

export async function readCourse(db: Queryable): Promise<CourseRow> {
  const [row] = await queryText(db, {
    name: 'relay-course',
    text: `select epoch, mode, switch_to, switch_step, switch_waiting_for,
                  round(1000 * extract(epoch from clock_timestamp() - switch_since))
             from outbox.relay`,
    values: [],
    timeoutMs,
  })
  const [epoch, mode, to, step, waitingFor = null, sinceMs] = row ?? []
  const switching =
    typeof to === 'string'
      ? { to: to as Mode, step: step as Step | null, sinceMs: Number(sinceMs), waitingFor }
      : null
  return { epoch: epoch ?? '', mode: mode as Mode, switching }
}

export type Asking = {
  /** Null: the present one, whatever it is, which cancels a switch. */
  mode: Mode | null
  actor: string
  reason: string | null
  /** Asked for by RELAY_MODE, by the leader of this epoch: then not again at the next start. */
  epoch?: string
}

/**
 * Asks for a mode. False when that is where the relay is, or is going, already; or when the epoch that
 * was given is over.
 */
export async function askForMode(db: Queryable, asking: Asking): Promise<boolean> {
  const { mode, actor, reason, epoch = null } = asking
  const rows = await queryText(db, {
    name: 'relay-ask',
    text: `with before as (
             select mode, coalesce(switch_to, mode) as goal, coalesce($1, mode) as wanted
               from outbox.relay for update
           ), mine as (
             update outbox.relay as relay
                set switch_to = nullif(wanted, before.mode),
                    switch_since = case when wanted <> before.mode then clock_timestamp() end,
                    switch_by = case when wanted <> before.mode then $2 end,
                    switch_reason = case when wanted <> before.mode then $3 end,
                    switch_step = null, switch_waiting_for = null,
                    mode_variable = case when $4::bigint is null then mode_variable else wanted end
               from before
              where (goal <> wanted or $4::bigint is not null)
                and coalesce($4::bigint = epoch, true)
             returning epoch, goal, wanted, before.mode as mode
           ), told as (
             insert into outbox.audit (epoch, actor, action, before, after, reason)
             select epoch, $2, case when wanted = mode then 'switch_cancelled' else 'switch_asked' end,
                    goal, wanted, $3
               from mine where goal <> wanted
             returning 1
           )
           select from told`,
    values: [mode, actor, reason, epoch],
    timeoutMs,
  })
  return rows.length === 1
}

/** Throws `progress_fenced` when another epoch has begun. */
export async function saveStep(db: Queryable, epoch: string, step: Step): Promise<void> {
  const rows = await queryText(db, {
    name: 'relay-step',
    text: `update outbox.relay
              set switch_step = case when switch_to is not null then $2 end,
                  switch_waiting_for = null
            where epoch = $1 returning 1`,
    values: [epoch, step],
    timeoutMs,
  })
  if (rows.length === 1) return
  throw new RelayError('progress_fenced', 'another leader has begun: nothing was written')
}

/** For whoever asks a relay that does not lead. */
export async function saveWaiting(db: Queryable, epoch: string, why: string | null): Promise<void> {
  await queryText(db, {
    name: 'relay-waiting',
    text: `update outbox.relay set switch_waiting_for = $2
            where epoch = $1 and switch_to is not null`,
    values: [epoch, why],
    timeoutMs,
  })
}

/**
 * The end of a switch: its mode sends. False when there is none to this mode: it was cancelled, or
 * another one was asked for, or the epoch is over.
 */
export async function finishSwitch(db: Queryable, epoch: string, mode: Mode): Promise<boolean> {
  const rows = await queryText(db, {
    name: 'relay-finish',
    text: `with before as (
             select mode, switch_by, switch_reason from outbox.relay for update
           ), mine as (
             update outbox.relay as relay
                set mode = $2, switch_to = null, switch_since = null, switch_by = null,
                    switch_reason = null, switch_step = null, switch_waiting_for = null
               from before where epoch = $1 and switch_to = $2
             returning epoch, before.mode as was, before.switch_by as actor,
                       before.switch_reason as reason
           ), told as (
             insert into outbox.audit (epoch, actor, action, before, after, reason)
             select epoch, coalesce(actor, 'sql'), 'mode_changed', was, $2, reason from mine
           )
           select from mine`,
    values: [epoch, mode],
    timeoutMs,
  })
  return rows.length === 1
}
