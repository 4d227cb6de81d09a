import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { variables as commandApi } from 'command-api/config'
import { variables as migrations } from 'migrations/config'
import { variables as outboxRelay } from 'outbox-relay/config'
import { variables as queryApi } from 'query-api/config'
import { openAccess } from 'service/access'
import { EnvironmentInvalid, readEnvironment } from 'service/environment'
import { openLog } from 'service/log'
import { describe, expect, test } from 'vitest'
import type { z } from 'zod'
import {
  composeVariables,
  interpolate,
  parseCompose,
  readComposeFile,
  type ComposeService,
} from './compose-file.ts'

const repositoryFile = (path: string) =>
  readFileSync(new URL(`../${path}`, import.meta.url), 'utf8')

const { services, volumes } = readComposeFile()
const service = (name: string): ComposeService => {
  const found = services[name]
  if (found === undefined) throw new Error(`no service ${name}`)
  return found
}

const processes: Readonly<Record<string, z.ZodObject>> = {
  'command-api': commandApi,
  'outbox-relay': outboxRelay,
  'query-api': queryApi,
  migrate: migrations,
}
const listeners = ['command-api', 'outbox-relay', 'query-api'] as const
const oneShots = ['migrate', 'access-key', 'query-api-key']
const longRunning = Object.keys(services).filter((name) => !oneShots.includes(name))
const ours = [...listeners, ...oneShots]

/** What a process would say of these variables, and which of them it would never read. */
function faultsOf(schema: z.ZodObject, environment: Record<string, string>): string[] {
  const unknown = Object.keys(environment)
    .filter((name) => !(name in schema.shape))
    .map((name) => `${name}: no such variable`)
  try {
    readEnvironment(schema, environment)
    return unknown
  } catch (error) {
    return error instanceof EnvironmentInvalid ? [...unknown, ...error.problems] : [String(error)]
  }
}

/**
 * The variables without which a process starts and leaves something undone: neither required nor
 * with a default.
 */
function missingFeatures(schema: z.ZodObject, environment: Record<string, string>): string[] {
  return Object.entries(schema.shape).flatMap(([name, variable]) => {
    const absent = (variable as z.ZodType).safeParse(undefined)
    const isOptional = absent.success && absent.data === undefined
    return isOptional && (environment[name] ?? '') === '' ? [name] : []
  })
}

/** The variable that names a process's port, and its default. */
function portOf(name: string): { variable: string; port: number } {
  const shape = processes[name]?.shape ?? {}
  const variable = Object.keys(shape).find((each) => /^[A-Z_]+_PORT$/.test(each)) ?? ''
  const settings = readEnvironment(processes[name]!, service(name).environment)
  return { variable, port: Number(settings[variable]) }
}

test('the services are those of the design, and nothing else', () => {
  expect(Object.keys(services).toSorted()).toEqual(
    [...ours, 'connect', 'kafka', 'postgres'].toSorted(),
  )
})

describe('variables', () => {
  test.each(Object.keys(processes))('%s takes every variable it is given', (name) => {
    expect(faultsOf(processes[name]!, service(name).environment)).toEqual([])
  })

  test.each(Object.keys(processes))('%s would miss each variable that it requires', (name) => {
    const { environment } = service(name)
    const required = Object.keys(environment).filter(
      (each) => !processes[name]!.shape[each]!.safeParse(undefined).success,
    )
    expect(required.length).toBeGreaterThan(0)
    for (const left of required) {
      const { [left]: _, ...rest } = environment
      expect(faultsOf(processes[name]!, rest)).toContain(`${left}: required and not set`)
    }
  })

  test.each(Object.keys(processes))('%s is given what each of its features needs', (name) => {
    expect(missingFeatures(processes[name]!, service(name).environment)).toEqual([])
  })

  test('a feature whose variable is missing or empty is found', () => {
    const { COMMAND_API_KEY: _, ...rest } = service('query-api').environment
    expect(missingFeatures(queryApi, rest)).toEqual(['COMMAND_API_KEY'])
    expect(missingFeatures(queryApi, { ...rest, COMMAND_API_KEY: '' })).toEqual(['COMMAND_API_KEY'])
    expect(missingFeatures(queryApi, {})).toEqual(
      expect.arrayContaining(['COMMAND_API_URL', 'COMMAND_API_KEY', 'RELAY_URL']),
    )
    expect(missingFeatures(queryApi, {})).not.toContain('SWEEP_SECONDS')
  })

  test('a misspelt variable and a bad value are each found', () => {
    const { environment } = service('command-api')
    expect(
      faultsOf(commandApi, { ...environment, HEARTBEAT_SECOND: '1', WRITE_DATABASE_URL: 'x' }),
    ).toEqual(['HEARTBEAT_SECOND: no such variable', expect.stringMatching(/^WRITE_DATABASE_URL:/)])
  })

  test.each(listeners)('%s listens beyond its container, and only for known keys', (name) => {
    const { environment, volumes: mounted } = service(name)
    expect(environment).toMatchObject({ HOST: '0.0.0.0', AUTH: 'on' })
    expect(mounted).toContain('access:/var/lib/sluice:ro')
    expect(service('access-key').command).toContain(environment.ACCESS_KEYS_FILE)
    expect(service('query-api-key').command).toContain(environment.ACCESS_KEYS_FILE)
  })

  test('each role is used with the password that migrate gives it, on a database made at the start', () => {
    const made = repositoryFile('containers/postgres/databases.sql')
    const urls = ours.flatMap((name) =>
      Object.entries(service(name).environment).filter(([each]) => each.endsWith('DATABASE_URL')),
    )
    expect(urls).toHaveLength(8)
    for (const [variable, value] of urls) {
      const url = new URL(value)
      const given =
        url.username === 'postgres'
          ? service('postgres').environment.POSTGRES_PASSWORD
          : service('migrate').environment[`${url.username.toUpperCase()}_PASSWORD`]
      expect([variable, url.password]).toEqual([variable, given])
      expect(made).toContain(`create database ${url.pathname.slice(1)};`)
      expect(url.host).toBe('postgres:5432')
    }
  })

  test('services find each other where each listens', () => {
    const { environment } = service('query-api')
    expect(environment.COMMAND_API_URL).toBe(`http://command-api:${portOf('command-api').port}`)
    expect(environment.RELAY_URL).toBe(`http://outbox-relay:${portOf('outbox-relay').port}`)
    const [connectPort] = service('connect').ports?.[0]?.split(':').slice(-1) ?? []
    expect(service('outbox-relay').environment.CONNECT_URL).toBe(`http://connect:${connectPort}`)
    expect(service('kafka').environment.KAFKA_ADVERTISED_LISTENERS).toContain(
      `PLAINTEXT://${environment.KAFKA_BROKERS},`,
    )
  })
})

describe("the query API's access key", () => {
  const called = service('query-api').environment.COMMAND_API_KEY ?? ''

  /** The command of query-api-key, on a file of this machine; then whom that file lets in. */
  function callerAfter(environment: Record<string, string>) {
    const folder = mkdtempSync(join(tmpdir(), 'compose-'))
    try {
      const file = join(folder, 'access-keys.json')
      const { command = [] } = service('query-api-key')
      const args = command.slice(1).map((each) => each.replace(/^.*access-keys\.json$/, file))
      const cwd = fileURLToPath(new URL('..', import.meta.url))
      const { status, stderr } = spawnSync(process.execPath, args, { cwd, env: environment })
      if (status !== 0) return stderr.toString()
      const access = openAccess(file, openLog('test', 'fatal'))
      access.close()
      return access.identify(`Bearer ${called}`)
    } finally {
      rmSync(folder, { recursive: true })
    }
  }

  test('lets it in as the service that it is', () => {
    expect(callerAfter(service('query-api-key').environment)).toEqual({
      name: 'query-api',
      role: 'service',
    })
  })

  test('would be missed, and found different, where only one of the two knew it', () => {
    expect(callerAfter({})).toBe('COMMAND_API_KEY is not set\n')
    expect(() => callerAfter({ COMMAND_API_KEY: `another-${called}` })).toThrow(
      expect.objectContaining({ code: 'unauthenticated' }),
    )
  })

  test('is a variable of the file, the same one in both', () => {
    const { services: changed } = readComposeFile({ COMMAND_API_KEY: 'changed' })
    for (const name of ['query-api', 'query-api-key']) {
      expect(changed[name]?.environment.COMMAND_API_KEY).toBe('changed')
    }
  })
})

describe('ports', () => {
  /** `host:variable's default:container`, of the file as it is written. */
  const published = (name: string, environment: NodeJS.ProcessEnv = {}) =>
    readComposeFile(environment).services[name]?.ports

  test.each(listeners)('%s is published under its own default port, on loopback', (name) => {
    const { variable, port } = portOf(name)
    expect(published(name)).toEqual([`127.0.0.1:${port}:${port}`])
    expect(published(name, { [variable]: '5555' })).toEqual([`127.0.0.1:5555:${port}`])
  })

  test.each(['POSTGRES', 'KAFKA', 'CONNECT'])('%s has the default port of npm start', (name) => {
    const byDefault = new RegExp(`${name}_PORT: port\\((\\d+)\\)`)
    const [, port] = byDefault.exec(repositoryFile('local-stack/config.ts')) ?? []
    expect(published(name.toLowerCase())?.[0]?.split(':').slice(0, 2)).toEqual(['127.0.0.1', port])
  })

  test('every published port is on loopback and can be moved by a variable of its name', () => {
    const names = { 'outbox-relay': 'RELAY' } as Record<string, string>
    for (const name of longRunning) {
      const variable = `${names[name] ?? name.toUpperCase().replaceAll('-', '_')}_PORT`
      expect(published(name, { [variable]: '5555' })).toEqual([
        expect.stringMatching(/^127\.0\.0\.1:5555:\d+$/),
      ])
    }
    expect(oneShots.flatMap((name) => published(name))).toEqual([])
  })

  test('Kafka tells this machine the port under which it is published', () => {
    const moved = readComposeFile({ KAFKA_PORT: '5555' }).services.kafka
    expect(moved?.environment.KAFKA_ADVERTISED_LISTENERS).toContain('HOST://127.0.0.1:5555')
    expect(moved?.ports).toEqual(['127.0.0.1:5555:29092'])
    expect(moved?.environment.KAFKA_LISTENERS).toContain('HOST://:29092')
  })
})

describe('images', () => {
  test('PostgreSQL and Kafka are the ones that the tests run on', () => {
    const source = repositoryFile('local-stack/containers.ts')
    for (const name of ['postgres', 'kafka']) {
      const [, image] = new RegExp(`${name}Image = '([^']+)'`).exec(source) ?? []
      expect(service(name).image).toBe(image)
    }
  })

  test('what is ours comes from one image, of this version', () => {
    const { version } = JSON.parse(repositoryFile('package.json')) as { version: string }
    for (const name of ours) expect(service(name).image).toBe(`sluice:${version}`)
    expect(service('migrate').build?.args.NODE_IMAGE).toBe(
      /^ARG NODE_IMAGE=(.+)$/m.exec(repositoryFile('Dockerfile'))?.[1],
    )
  })

  test('every image names a version, and none is the latest', () => {
    for (const { image, build } of Object.values(services)) {
      for (const each of [image, ...Object.values(build?.args ?? {})]) {
        expect(each).toMatch(/:[\w.-]*\d[\w.-]*$/)
        expect(each).not.toContain('latest')
      }
    }
  })

  test('it holds every workspace that its processes need, and no other', () => {
    const roots = [...listeners, 'migrations', 'service']
    const needed = new Set<string>()
    const visit = (name: string) => {
      if (needed.has(name)) return
      needed.add(name)
      const manifest = JSON.parse(repositoryFile(`${name}/package.json`)) as Record<string, object>
      const dependencies = Object.keys(manifest.dependencies ?? {})
      dependencies.filter((each) => workspaces.includes(each)).forEach(visit)
    }
    const { workspaces } = JSON.parse(repositoryFile('package.json')) as { workspaces: string[] }
    roots.forEach(visit)

    const dockerfile = repositoryFile('Dockerfile')
    const sorted = (names: Iterable<string | undefined>) => [...names].toSorted()
    const copied = dockerfile.matchAll(/^COPY (\S+)\/package\.json /gm)
    const installed = dockerfile.matchAll(/ -w (\S+)/g)
    const sent = repositoryFile('.dockerignore').matchAll(/^!([a-z-]+)$/gm)
    expect(sorted([...copied].map(([, name]) => name))).toEqual(sorted(needed))
    expect(sorted([...installed].map(([, name]) => name))).toEqual(sorted(needed))
    expect(sorted([...sent].map(([, name]) => name))).toEqual(sorted(needed))
  })

  test.each(ours)('%s runs a file that the image holds', (name) => {
    const [program, ...rest] = service(name).command ?? []
    expect(program).toBe('node')
    const path = rest.find((each) => !each.startsWith('--')) ?? ''
    const [folder = '', file = ''] = path.split('/')
    expect(readdirSync(new URL(`../${folder}/`, import.meta.url))).toContain(file)
  })
})

describe('running', () => {
  test.each(listeners)('%s is given the memory that npm start gives it', (name) => {
    const source = repositoryFile('local-stack/services.ts')
    const [, flags = ''] = new RegExp(`'${name}': \\[(.*?)\\],`).exec(source) ?? []
    const byStart = [...flags.matchAll(/'([^']+)'/g)].map(([, flag]) => flag)
    expect(service(name).command).toEqual(['node', ...byStart, `${name}/main.ts`])
    if (name === 'outbox-relay') expect(byStart).toHaveLength(2)
  })

  test('Connect stores offsets every second: a slot moves only then, and the default is a minute', () => {
    expect(service('connect').environment?.OFFSET_FLUSH_INTERVAL_MS).toBe('1000')
  })

  test.each(longRunning)('%s says whether it is healthy, and comes back after a fault', (name) => {
    expect(service(name).healthcheck?.test[0]).toBe('CMD')
    expect(service(name).restart).toBe('unless-stopped')
  })

  test.each(listeners)('%s is asked for its readiness where it listens', (name) => {
    expect(service(name).healthcheck?.test.at(-1)).toContain(
      `http://127.0.0.1:${portOf(name).port}/readyz`,
    )
  })

  test.each(oneShots)('%s runs once', (name) => {
    expect(service(name).restart).toBeUndefined()
  })

  test('services start when the schema and the keys are there', () => {
    const done = { condition: 'service_completed_successfully' }
    const healthy = { condition: 'service_healthy' }
    for (const name of listeners) {
      expect(service(name).depends_on).toEqual({ migrate: done, 'query-api-key': done })
    }
    // One after the other: two additions to the file at once refuse each other.
    expect(service('query-api-key').depends_on).toEqual({ 'access-key': done })
    expect(service('access-key').depends_on).toEqual({})
    expect(service('migrate').depends_on).toEqual({ postgres: healthy, kafka: healthy })
  })

  test('only what Debezium needs waits for its profile', () => {
    const waiting = Object.keys(services).filter((name) => service(name).profiles.length > 0)
    expect(waiting).toEqual(['connect'])
    expect(service('connect').profiles).toEqual(['debezium'])
  })

  test('every volume is used, every log is bounded', () => {
    const used = Object.values(services).flatMap((each) => each.volumes.map((v) => v.split(':')[0]))
    for (const name of Object.keys(volumes)) expect(used).toContain(name)
    for (const each of Object.values(services)) {
      expect(each.logging?.options).toHaveProperty('max-size')
    }
  })

  test('PostgreSQL keeps what logical decoding needs, and Kafka makes no topic by itself', () => {
    expect(service('postgres').command).toContain('wal_level=logical')
    expect(service('kafka').environment.KAFKA_AUTO_CREATE_TOPICS_ENABLE).toBe('false')
  })
})

describe('reading the file', () => {
  test('a variable is its value, else its default; an empty one is none', () => {
    expect(interpolate('${A:-1} ${A:-2}', { A: 'x' })).toBe('x x')
    expect(interpolate('${A:-1} ${B:-}', { A: '' })).toBe('1 ')
    expect(interpolate('$$A', {})).toBe('$A')
  })

  test.each(['${A}', '$A'])('%s without a value is refused', (source) => {
    expect(() => interpolate(source, {})).toThrow(
      expect.objectContaining({ code: 'compose_file_invalid' }),
    )
  })

  test('a bare `on`, which older Compose takes for a boolean, is refused', () => {
    const source = 'services: {a: {image: "b:1", environment: {AUTH: on}}}\nvolumes: {}'
    expect(() => parseCompose(source, {})).toThrow(
      expect.objectContaining({ code: 'compose_file_invalid' }),
    )
  })

  test('a variable has the same default wherever it stands', () => {
    for (const [name, byDefault] of composeVariables()) {
      const uses = repositoryFile('docker-compose.yml').matchAll(
        new RegExp(`\\$\\{${name}:-([^}]*)\\}`, 'g'),
      )
      expect([...uses].map((use) => use[1])).toSatisfy(
        (all: string[]) => all.length > 0 && all.every((each) => each === byDefault),
      )
    }
  })
})
