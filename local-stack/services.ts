import { fileURLToPath } from 'node:url'
import { pause } from 'service/backoff'
import type { DataFolder } from './data-folder.ts'
import { StackError } from './errors.ts'
import { startChild, type Child } from './processes/child.ts'
import { supervise, type Death, type Supervised } from './processes/supervisor.ts'

const repository = fileURLToPath(new URL('..', import.meta.url))

export const serviceNames = ['outbox-relay', 'command-api', 'query-api'] as const
export type ServiceName = (typeof serviceNames)[number]

/**
 * The relay turns over a great deal and keeps little: unless told so, Node lets its heap grow to
 * twice what it needs before it collects. With twice the young generation it would drain a seventh
 * faster and hold 30 MB more. docker-compose.yml must say the same.
 */
export const nodeFlags: Partial<Record<ServiceName, readonly string[]>> = {
  'outbox-relay': ['--max-semi-space-size=8', '--max-old-space-size=128'],
}

type ServiceOptions = {
  name: ServiceName
  dataFolder: DataFolder
  /** Beside the environment of this process, and stronger. */
  env: Record<string, string>
  /** Distinguishes two of one kind, in logs and messages. */
  label?: string
}

/** Starts one service process; it may not be ready yet. Throws `spawn_failed`. */
export function startService({
  name,
  dataFolder,
  env,
  label = name,
}: ServiceOptions): Promise<Child> {
  return startChild({
    name: label,
    tier: 'service',
    command: process.execPath,
    args: [...(nodeFlags[name] ?? []), `${name}/main.ts`],
    cwd: repository,
    env: { ...process.env, ...env },
    logFile: dataFolder.logFile(label),
    ledger: dataFolder.ledger,
    stopSteps: [
      { signal: 'SIGTERM', waitMs: 15_000 },
      { signal: 'SIGKILL', waitMs: 5_000 },
    ],
  })
}

export type SuperviseServiceOptions = ServiceOptions & {
  /** Where it answers /readyz, such as `http://127.0.0.1:4010`. */
  url: string
  onDeath: (death: Death) => void
  onRestart: (child: Child) => void
  /** Told why it is not ready yet. */
  progress: (text: string) => void
  readyDeadlineMs?: number
  signal: AbortSignal
}

// Exit code 78 (EX_CONFIG) says that the settings are wrong: starting again changes nothing.
const wrongSettings = 78
const deathsAtStart = 3

/**
 * Starts a service that is started again whenever it dies, and resolves when it is ready. Throws
 * `service_start_failed`, with the end of its log, when it dies three times or of wrong settings
 * before it was ready once, or is not ready at the deadline.
 */
export async function superviseService(options: SuperviseServiceOptions): Promise<Supervised> {
  const { name, label = name, url, progress, signal, readyDeadlineMs = 60_000 } = options
  let hopeless: Death | undefined
  let ready = false
  const supervised = await supervise({
    name: label,
    launch: () => startService(options),
    onRestart: options.onRestart,
    onDeath(death) {
      const last = death.exit.code === wrongSettings || death.inARow >= deathsAtStart
      if (!ready && last) hopeless = death
      // Before it was ready once the end of the log is told at most once, when it is given up.
      else options.onDeath(ready ? death : { ...death, logTail: '' })
    },
  })
  try {
    const deadline = performance.now() + readyDeadlineMs
    for (;;) {
      signal.throwIfAborted()
      if (hopeless !== undefined) throw startFailure(label, 'keeps dying', hopeless)
      const reason = await whyNotReady(url, signal)
      if (reason === undefined) break
      progress(reason)
      if (performance.now() > deadline) {
        throw new StackError(
          'service_start_failed',
          `${label} is not ready after ${readyDeadlineMs / 1_000} s: ${reason}`,
        )
      }
      await pause(50, signal)
    }
    ready = true
    return supervised
  } catch (error) {
    await supervised.stop()
    throw error
  }
}

/** Why a service's /readyz does not say 200; undefined when it does. */
async function whyNotReady(url: string, signal: AbortSignal): Promise<string | undefined> {
  try {
    const timeout = AbortSignal.timeout(2_000)
    const response = await fetch(`${url}/readyz`, { signal: AbortSignal.any([signal, timeout]) })
    const body = await response.text()
    return response.ok ? undefined : `/readyz says ${response.status} ${body.slice(0, 300)}`
  } catch {
    return 'does not answer yet'
  }
}

function startFailure(name: string, how: string, { logFile, logTail }: Death): StackError {
  return new StackError(
    'service_start_failed',
    `${name} ${how}; the end of ${logFile}:\n${logTail}`,
  )
}
