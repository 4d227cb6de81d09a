// One bringing-up of docker-compose.yml beside any other on this machine: under a project name and
// on ports of its own. Disposing of it removes its containers, networks and volumes, whatever state
// they are in, so that nothing of a check is left behind.
import { randomBytes } from 'node:crypto'
import { fileURLToPath } from 'node:url'
import { findFreePorts, waitUntil } from 'local-stack'
import { runCommand } from './command.ts'
import { composePath } from './compose-file.ts'
import { ContainersError } from './errors.ts'

const portVariables = [
  'COMMAND_API_PORT',
  'QUERY_API_PORT',
  'RELAY_PORT',
  'POSTGRES_PORT',
  'KAFKA_PORT',
  'CONNECT_PORT',
] as const
type PortVariable = (typeof portVariables)[number]

const imagesMs = 20 * 60_000
const containersMs = 5 * 60_000
const healthyMs = 180_000

export type ComposeProject = AsyncDisposable & {
  name: string
  url(port: PortVariable): string
  build(): Promise<void>
  /**
   * Starts what is given, or everything without a profile; images are pulled when missing. What `changed`
   * changes of a service that runs starts it anew.
   */
  up(services?: readonly string[], changed?: Readonly<Record<string, string>>): Promise<void>
  /** Waits until Docker calls each of them healthy. Throws `container_unhealthy`. */
  healthy(services: readonly string[]): Promise<void>
  /** Removes the containers and keeps the volumes. */
  down(): Promise<void>
  logs(service: string): Promise<string>
  /** Runs a command in a service's container; what it says. */
  exec(service: string, command: readonly string[]): Promise<string>
}

/** `compose`: the command that answers here, as findCompose gave it. */
export async function openComposeProject(
  compose: readonly string[],
  signal: AbortSignal,
): Promise<ComposeProject> {
  const name = `sluice-check-${randomBytes(3).toString('hex')}`
  const free = await findFreePorts(portVariables.length)
  const ports = Object.fromEntries(
    portVariables.map((variable, at) => [variable, String(free[at])]),
  )
  const environment = { ...process.env, ...ports, COMPOSE_PROFILES: '' }
  const base = [...compose, '-p', name, '-f', fileURLToPath(composePath), '--profile', 'debezium']
  const run = (args: readonly string[], timeoutMs: number, patient = false, changed = {}) =>
    runCommand([...base, ...args], {
      environment: { ...environment, ...changed },
      timeoutMs,
      // Cleaning up goes on after an interruption.
      ...(patient ? {} : { signal }),
    })
  const logs = (service: string) => run(['logs', '--no-color', '--tail=40', service], 60_000, true)
  return {
    name,
    url: (port) => `http://127.0.0.1:${ports[port]}`,
    async build() {
      // One of the services that share the image: the others find it made.
      await run(['build', 'migrate'], imagesMs)
    },
    async up(services, changed) {
      const named = services ?? (await ordinaryServices(run))
      try {
        await run(['up', '-d', '--no-build', ...named], imagesMs, false, changed)
      } catch (cause) {
        signal.throwIfAborted()
        // Compose names the service that failed, and not what it said.
        const said = await Promise.all(['migrate', 'access-key', 'query-api-key'].map(logs))
        const message = `${(cause as Error).message}\n${said.join('')}`
        throw new ContainersError('command_failed', message, { cause })
      }
    },
    async healthy(services) {
      await Promise.all(services.map((service) => healthy(service, { run, logs, signal })))
    },
    async down() {
      await run(['down'], containersMs)
    },
    logs,
    exec: (service, command) => run(['exec', '-T', service, ...command], 60_000),
    async [Symbol.asyncDispose]() {
      await run(['down', '-v', '--remove-orphans', '-t', '5'], containersMs, true)
      await nothingLeft(name)
    },
  }
}

type Run = (args: readonly string[], timeoutMs: number, patient?: boolean) => Promise<string>

/** All that have no profile; named one by one because the profile is on for every command. */
async function ordinaryServices(run: Run): Promise<string[]> {
  const all = await run(['config', '--services'], 60_000)
  return all.split(/\s+/).filter((service) => service !== '' && service !== 'connect')
}

async function healthy(
  service: string,
  { run, logs, signal }: Pick<ComposeProject, 'logs'> & { run: Run; signal: AbortSignal },
): Promise<void> {
  const id = (await run(['ps', '-q', service], 60_000)).trim()
  try {
    await waitUntil(async () => (await healthOf(id)) === 'running, healthy', {
      what: `${service} to be healthy`,
      deadlineMs: healthyMs,
      intervalMs: 500,
      signal,
    })
  } catch (cause) {
    signal.throwIfAborted()
    throw new ContainersError(
      'container_unhealthy',
      `${service} is ${await healthOf(id)} after ${healthyMs / 1_000} s; the end of its log:\n` +
        (await logs(service)),
      { cause },
    )
  }
}

async function healthOf(id: string): Promise<string> {
  const format = '{{.State.Status}}, {{if .State.Health}}{{.State.Health.Status}}{{else}}-{{end}}'
  return (await runCommand(['docker', 'inspect', '-f', format, id], { timeoutMs: 60_000 })).trim()
}

/** Throws `left_behind` naming what still bears the project's name. */
async function nothingLeft(project: string): Promise<void> {
  const label = `label=com.docker.compose.project=${project}`
  const list = (...args: string[]) =>
    runCommand(['docker', ...args, '--filter', label], { timeoutMs: 60_000 })
  const found = await Promise.all([
    list('ps', '-a', '--format', 'container {{.Names}}'),
    list('volume', 'ls', '--format', 'volume {{.Name}}'),
    list('network', 'ls', '--format', 'network {{.Name}}'),
  ])
  const left = found.join('').trim()
  if (left !== '') throw new ContainersError('left_behind', `still there:\n${left}`)
}
