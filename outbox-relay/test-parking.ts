import { fileURLToPath } from 'node:url'
import { setTopic } from 'kafka/test-topics'
import { testBrokers } from 'local-stack/test-databases'
import { waitUntil } from 'local-stack/wait-until'
import { pause } from 'service/backoff'
import type { RelayProcess } from './test-relay.ts'
import type { Stage } from './test-stage.ts'
import { topicOf } from './wire.ts'

// Poison, and what a person does about it.

/** Larger than what a topic takes unless it is told otherwise. */
export const hugePayload = JSON.stringify('x'.repeat(1_100_000))

/** The account among those of `writeOn` that has one event too large. */
export const poisoned = 'w-0'

/**
 * Writes the next version of each account, again and again; of the poisoned one, version `hugeAt` is
 * larger than Kafka takes. Ends when it is disposed of, or at `stop`.
 */
export async function writeOn(stage: Stage, { hugeAt = 5, accounts = 4, from = 1 } = {}) {
  const ended = new AbortController()
  const writer = await stage.session()
  let written = 0
  const writing = (async () => {
    for (let version = from; !ended.signal.aborted; version += 1) {
      await writer.insert(
        ...Array.from({ length: accounts }, (_, account) => ({
          aggregateType: stage.aggregateType,
          aggregateId: `w-${account}`,
          version,
          ...(account === 0 && version === hugeAt ? { payload: hugePayload } : {}),
        })),
      )
      written = version
      await pause(10, ended.signal)
    }
  })()
  // Heard of at `stop`.
  writing.catch(() => {})
  const stop = async () => {
    ended.abort()
    await writing
  }
  return {
    stop,
    /** So many more versions of each are committed. */
    async more(versions: number): Promise<void> {
      const wanted = written + versions
      await waitUntil(() => written >= wanted, { what: 'more events', deadlineMs: 30_000 })
    },
    async [Symbol.asyncDispose]() {
      ended.abort()
      await writing.catch(() => {})
      await writer[Symbol.asyncDispose]()
    },
  }
}

/** The largest record that the stage's topic takes. */
export const setLimit = ({ aggregateType }: Stage, bytes: number) =>
  setTopic(testBrokers(), {
    topic: topicOf(aggregateType),
    name: 'max.message.bytes',
    value: String(bytes),
  })

/** Lets the stage's topic take the large events. */
export const raiseLimit = (stage: Stage) => setLimit(stage, 4_000_000)

/** So many events at least wait. */
export const parks = (relay: RelayProcess, events: number) =>
  waitUntil(async () => (await relay.status()).parked.events >= events, {
    what: `${events} parked events`,
    deadlineMs: 30_000,
  })

export const nothingParked = (relay: RelayProcess) =>
  waitUntil(async () => (await relay.status()).parked.aggregates === 0, {
    what: 'the end of all parking',
    deadlineMs: 30_000,
  })

type ParkedEntry = {
  aggregateId: string
  refused: { version: string; reason: string; times: number }
  events: number
  releasing: boolean
}

export async function parkedList(relay: RelayProcess): Promise<ParkedEntry[]> {
  const response = await fetch(`${relay.url}/relay/parked`)
  return ((await response.json()) as { items: ParkedEntry[] }).items
}

/** As an operator does; gives the status of the answer. */
export async function act(
  relay: RelayProcess,
  { aggregateType }: Stage,
  { kind, aggregateId = poisoned }: { kind: 'retry' | 'skip'; aggregateId?: string },
): Promise<number> {
  const path = `/relay/parked/${aggregateType}/${aggregateId}/${kind}`
  const response = await fetch(`${relay.url}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ reason: `the test says ${kind}` }),
  })
  return response.status
}

/** A retry of everything that waits. */
export async function actOnAll(relay: RelayProcess): Promise<{ status: number; body: unknown }> {
  const response = await fetch(`${relay.url}/relay/parked/retry`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ reason: 'the test says all of it' }),
  })
  return { status: response.status, body: await response.json() }
}

/** What the environment of a relay needs for its own source to be changed as it is loaded. */
export function patchedSource(patches: readonly { file: string; find: string; put: string }[]) {
  const hook = fileURLToPath(new URL('../drills/source-patch.ts', import.meta.url))
  return { NODE_OPTIONS: `--import=${hook}`, DRILL_PATCHES: JSON.stringify(patches) }
}
