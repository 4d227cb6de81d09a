import { pause } from 'service/backoff'
import { z } from 'zod'
import {
  type ConnectorConfiguration,
  invalid,
  requireConnectorName,
  topicPrefix,
} from './configuration.ts'
import {
  type Connect,
  type ConnectAnswer,
  type ConnectRequest,
  failure,
  parseAnswer,
  send,
} from './rest.ts'

// The life of a connector, through Kafka Connect's REST interface. Each function asks for one thing
// and returns when Connect shows it done, since Connect answers before it acts: offsets, for one,
// can be set only when the tasks have really ended. All are safe to repeat, so that whoever comes
// after a crash may begin again. Besides what each says, all throw what `send` in rest.ts throws.

export {
  connectorConfiguration,
  topicPrefix,
  type ConnectorConfiguration,
  type ConnectorSettings,
} from './configuration.ts'
export { ConnectError, type ConnectErrorCode } from './errors.ts'
export type { Connect } from './rest.ts'

const states = [
  'UNASSIGNED',
  'RUNNING',
  'PAUSED',
  'STOPPED',
  'FAILED',
  'RESTARTING',
  'DESTROYED',
] as const
export type ConnectorState = (typeof states)[number]

const partSchema = z.object({
  state: z.enum(states),
  worker_id: z.string(),
  trace: z.string().optional(),
})
const statusSchema = z.object({
  name: z.string(),
  connector: partSchema,
  tasks: z.array(partSchema.extend({ id: z.int() })),
})
const namesSchema = z.array(z.string())

export type PartStatus = {
  state: ConnectorState
  worker: string
  /** Why it FAILED: the innermost exception of the stack trace, on one line. */
  failure?: string
}
export type ConnectorStatus = { connector: PartStatus; tasks: (PartStatus & { id: number })[] }

const stateDeadlineMs = 60_000
const stateIntervalMs = 100
const failureCharacters = 1_000

/** Does Connect answer, with its group joined? Rejects only with the signal's reason. */
export async function connectAnswers(connect: Connect): Promise<boolean> {
  const request = { method: 'GET', path: '/connectors', timeoutMs: 2_000 } as const
  try {
    parseAnswer(namesSchema, await send(connect, request), request)
    return true
  } catch {
    connect.signal?.throwIfAborted()
    return false
  }
}

/** Names of the connectors that begin with `prefix`. */
export async function listConnectors(connect: Connect, prefix: string): Promise<string[]> {
  const request = { method: 'GET', path: '/connectors' } as const
  const names = parseAnswer(namesSchema, await send(connect, request), request)
  return names.filter((name) => name.startsWith(prefix)).toSorted()
}

/**
 * Makes the connector without running it. One of that name that is there already is stopped and
 * given this configuration; its offsets stay.
 */
export async function createStopped(
  connect: Connect,
  configuration: ConnectorConfiguration,
): Promise<void> {
  const { name = '' } = configuration
  requireConnectorName(name)
  const secrets = [configuration['database.password'] ?? '']
  const answer = await send(connect, {
    method: 'POST',
    path: '/connectors',
    body: JSON.stringify({ name, config: configuration, initial_state: 'STOPPED' }),
    secrets,
  })
  if (answer.status === 409) {
    await stop(connect, name)
    const body = JSON.stringify(configuration)
    await found(connect, { method: 'PUT', path: `${pathOf(name)}/config`, body, secrets })
  }
  await untilStopped(connect, name)
}

/**
 * Makes a stopped connector continue from `lsn`, a position as PostgreSQL prints it (`0/1A2B3C4`);
 * offsets of before are deleted. Throws `connector_missing`.
 */
export async function patchOffsets(connect: Connect, name: string, lsn: string): Promise<void> {
  const position = lsnNumber(lsn)
  await deleteOffsets(connect, name)
  // Written as text: a position may be greater than what a number of JavaScript holds.
  const offset = `{"lsn":${position},"lsn_proc":${position},"lsn_commit":${position}}`
  const partition = JSON.stringify({ server: topicPrefix })
  await found(connect, {
    method: 'PATCH',
    path: `${pathOf(name)}/offsets`,
    body: `{"offsets":[{"partition":${partition},"offset":${offset}}]}`,
  })
}

/** Runs it; whether its task then runs is for `status` to say. Throws `connector_missing`. */
export async function resume(connect: Connect, name: string): Promise<void> {
  await found(connect, { method: 'PUT', path: `${pathOf(name)}/resume` })
}

/**
 * Stops it, and returns when its tasks have ended; configuration and offsets stay. Throws
 * `connector_missing`, and `connector_state_unreached` after a minute.
 */
export async function stop(connect: Connect, name: string): Promise<void> {
  await found(connect, { method: 'PUT', path: `${pathOf(name)}/stop` })
  await untilStopped(connect, name)
}

/** Starts again what has FAILED of it, connector or tasks. Throws `connector_missing`. */
export async function restartFailed(connect: Connect, name: string): Promise<void> {
  const path = `${pathOf(name)}/restart?includeTasks=true&onlyFailed=true`
  await found(connect, { method: 'POST', path })
}

/** How it is; undefined when there is no such connector, or none that Connect has begun with. */
export async function status(connect: Connect, name: string): Promise<ConnectorStatus | undefined> {
  const request = { method: 'GET', path: `${pathOf(name)}/status` } as const
  const answer = await send(connect, request)
  if (answer.status === 404) return undefined
  const { connector, tasks } = parseAnswer(statusSchema, answer, request)
  return {
    connector: partOf(connector),
    tasks: tasks.map((task) => ({ id: task.id, ...partOf(task) })),
  }
}

/**
 * Removes it with its offsets, and returns when it is gone; nothing happens when it was. Throws
 * `connector_state_unreached` after a minute.
 */
export async function remove(connect: Connect, name: string): Promise<void> {
  try {
    await stop(connect, name)
    await deleteOffsets(connect, name)
    await found(connect, { method: 'DELETE', path: pathOf(name) })
  } catch (error) {
    if ((error as { code?: unknown }).code !== 'connector_missing') throw error
  }
  // Its status goes last, once the worker has let go of it.
  await until(connect, name, 'gone', async () => {
    const request = { method: 'GET', path: pathOf(name) } as const
    const listed = (await send(connect, request)).status !== 404
    return !listed && (await status(connect, name)) === undefined
  })
}

async function deleteOffsets(connect: Connect, name: string): Promise<void> {
  await found(connect, { method: 'DELETE', path: `${pathOf(name)}/offsets` })
}

/** Connect takes offsets only from a connector without tasks. */
function untilStopped(connect: Connect, name: string): Promise<void> {
  return until(connect, name, 'stopped', async () => {
    const now = await status(connect, name)
    return now?.connector.state === 'STOPPED' && now.tasks.length === 0
  })
}

async function until(
  connect: Connect,
  name: string,
  wanted: string,
  reached: () => Promise<boolean>,
): Promise<void> {
  const deadline = performance.now() + stateDeadlineMs
  while (!(await reached())) {
    if (performance.now() >= deadline) {
      const request = { method: 'GET', path: `${pathOf(name)}/status` } as const
      throw failure('connector_state_unreached', request, `not ${wanted} in ${stateDeadlineMs} ms`)
    }
    await pause(stateIntervalMs, connect.signal)
    connect.signal?.throwIfAborted()
  }
}

async function found(connect: Connect, request: ConnectRequest): Promise<ConnectAnswer> {
  const answer = await send(connect, request)
  if (answer.status !== 404) return answer
  throw failure('connector_missing', request, 'there is no such connector')
}

function pathOf(name: string): string {
  requireConnectorName(name)
  return `/connectors/${encodeURIComponent(name)}`
}

/** `0/1A2B3C4` as the number that Debezium stores. */
function lsnNumber(lsn: string): bigint {
  const [, high, low] = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/.exec(lsn) ?? []
  if (high === undefined || low === undefined) throw invalid(`position ${JSON.stringify(lsn)}`)
  return (BigInt(`0x${high}`) << 32n) + BigInt(`0x${low}`)
}

function partOf({ state, worker_id: worker, trace }: z.output<typeof partSchema>): PartStatus {
  if (trace === undefined || trace === '') return { state, worker }
  const lines = trace.split('\n').map((line) => line.trim())
  const innermost = lines.findLast((line) => line.startsWith('Caused by: ')) ?? lines[0] ?? ''
  return { state, worker, failure: innermost.slice(0, failureCharacters) }
}
