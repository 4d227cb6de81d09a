import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { waitUntil } from 'local-stack/wait-until'
import type { PartitionStatus } from './retention/partition-status.ts'

/** A line of the relay's log. */
type LogLine = {
  event?: string
  level?: string
  msg?: string
  url?: string
  err?: LoggedError
}
type LoggedError = { code?: string; message?: string; details?: Record<string, unknown> }

export type RelayAnswer = {
  mode: string
  switching: { to: string; step: string | null; sinceMs: number; waitingFor: string | null } | null
  source: string
  waitingFor: string | null
  slot: { name: string; walStatus: string; retainedBytes: number; safeBytes: number | null } | null
  connector: {
    name: string
    state: string
    tasks: string[]
    standsStill: boolean
    checkpointAgeMs: number
  } | null
  partitions: PartitionStatus
  leader: string | null
  epoch: string
  next: string
  gaps: number
  backlog: number
  oldestUnpublishedMs: number | null
  parked: { aggregates: number; events: number }
  lastBatch: { rows: number; lastPosition: string } | null
  lastError: { code: string; message: string } | null
}

export type Answer = { status: number; body: Record<string, unknown> }

const json = { 'Content-Type': 'application/json' }

async function send(url: string, request: RequestInit): Promise<Answer> {
  const response = await fetch(url, request)
  return { status: response.status, body: (await response.json()) as Record<string, unknown> }
}

export type RelayProcess = Awaited<ReturnType<typeof startRelay>>

/** `KAFKA_PRODUCER=direct vitest run ...` has every relay use that producer. */
const { KAFKA_PRODUCER } = process.env
const chosen = {
  ...(KAFKA_PRODUCER === undefined ? {} : { KAFKA_PRODUCER }),
  // Node's own default place. Halves the second that a relay takes to start.
  NODE_COMPILE_CACHE: join(tmpdir(), 'node-compile-cache'),
}

/** A relay as its own process, on a port of its own. Resolves when it answers HTTP. */
export async function startRelay(environment: Record<string, string>) {
  const child = spawn(process.execPath, [fileURLToPath(new URL('./main.ts', import.meta.url))], {
    env: { PATH: process.env.PATH, AUTH: 'off', RELAY_PORT: '0', ...chosen, ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const exited = once(child, 'exit').then(([code, signal]: unknown[]) => ({ code, signal }))
  const lines: LogLine[] = []
  let errors = ''
  createInterface({ input: child.stdout }).on('line', (line) => {
    lines.push(JSON.parse(line) as LogLine)
  })
  child.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()))
  const ended = () => child.exitCode !== null || child.signalCode !== null
  const logged = (event: string) => lines.find((line) => line.event === event)
  const stop = async (signal: NodeJS.Signals) => {
    child.kill(signal)
    return exited
  }
  const relay = {
    lines,
    logged,
    exited,
    stop,
    errors: () => errors,
    get url() {
      return logged('started')?.url ?? ''
    },
    async status(): Promise<RelayAnswer> {
      const response = await fetch(`${relay.url}/relay`)
      return (await response.json()) as RelayAnswer
    },
    /** `PUT /relay/mode`; the answer's status and body. */
    async ask(mode: string, reason?: string): Promise<Answer> {
      const body = JSON.stringify({ mode, reason })
      return send(`${relay.url}/relay/mode`, { method: 'PUT', headers: json, body })
    },
    cancel: (): Promise<Answer> => send(`${relay.url}/relay/switch`, { method: 'DELETE' }),
    /** A kill: a test that cares how it ends asks for that itself. */
    [Symbol.asyncDispose]: async () => void (await stop('SIGKILL')),
  }
  await waitUntil(() => logged('started') !== undefined || ended(), {
    what: 'the relay to start',
    deadlineMs: 60_000,
  }).catch(async (error: unknown) => {
    await stop('SIGKILL')
    throw error
  })
  return relay
}
