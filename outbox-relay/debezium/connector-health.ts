import type { ConnectorStatus } from 'connect/connector'
import { backoffMs } from 'service/backoff'

// What is done about a connector by what Connect says of it. RUNNING says little: whether anything
// moves is for the checkpoints to tell.

/** `away`: Connect does not answer; the connector may go on working all the same. */
export type Sighting = ConnectorStatus | 'missing' | 'away'

export type Health = {
  /** Sightings in a row without it. */
  missing: number
  /** Restarts since a checkpoint was passed. */
  restarts: number
  /** Until then the last restart may take. */
  patientUntilMs: number
}

/** `refused`: Kafka will not have an event, and would not after a restart; polling is to park it. */
export type Remedy = 'none' | 'restart' | { giveUp: string; refused?: true }

export const healthy: Health = { missing: 0, restarts: 0, patientUntilMs: -Infinity }

/** A worker that has just begun may not know it yet. */
const missingLimit = 3
const restartLimit = 5
/** What Kafka's client throws for a record that is not to be sent as it is, and Connect hands on. */
const refusals = /RecordTooLarge|InvalidRecord|InvalidTopic/
const restartBackoff = { firstMs: 1_000, capMs: 30_000 }

export function afterSighting(
  health: Health,
  sighting: Sighting,
  nowMs: number,
  random = Math.random,
): { health: Health; remedy: Remedy } {
  if (sighting === 'away') return { health, remedy: 'none' }
  if (sighting === 'missing') {
    const missing = health.missing + 1
    const giveUp = 'the connector is gone: somebody removed it'
    return { health: { ...health, missing }, remedy: missing < missingLimit ? 'none' : { giveUp } }
  }
  const present = { ...health, missing: 0 }
  const failed = [sighting.connector, ...sighting.tasks].find(({ state }) => state === 'FAILED')
  if (failed === undefined || nowMs < health.patientUntilMs) {
    return { health: present, remedy: 'none' }
  }
  const { failure } = failed
  if (failure !== undefined && refusals.test(failure)) {
    const giveUp = `it FAILED by an event that Kafka refuses: ${failure}`
    return { health: present, remedy: { giveUp, refused: true } }
  }
  if (health.restarts >= restartLimit) {
    const giveUp = `it FAILED after ${restartLimit} restarts: ${failure ?? 'no reason given'}`
    return { health: present, remedy: { giveUp } }
  }
  const restarts = health.restarts + 1
  const patientUntilMs = nowMs + backoffMs(restarts, restartBackoff, random)
  return { health: { ...present, restarts, patientUntilMs }, remedy: 'restart' }
}

/** A checkpoint was passed: whatever failed before has been mended. */
export function afterPassing(health: Health): Health {
  return { ...health, restarts: 0 }
}
