import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { listConnectors } from 'connect/connector'
import { expect, test } from 'vitest'
import { findFreePorts } from './processes/ports.ts'
import { ensureTestJars } from './test-servers.ts'
import { waitUntil } from './wait-until.ts'

const repository = fileURLToPath(new URL('..', import.meta.url))
const variables = [
  'COMMAND_API_PORT',
  'QUERY_API_PORT',
  'RELAY_PORT',
  'POSTGRES_PORT',
  'KAFKA_PORT',
  'KAFKA_CONTROLLER_PORT',
  'CONNECT_PORT',
]

test('npm start in mode debezium runs Kafka Connect, sends by it, and stops it before Kafka', async () => {
  await ensureTestJars()
  const ports = (await findFreePorts(variables.length)).map(String)
  const given = Object.fromEntries(variables.map((name, at) => [name, ports[at]]))
  const start = spawn('npm', ['start', '--', '--ephemeral'], {
    cwd: repository,
    env: { ...process.env, ...given, RELAY_MODE: 'debezium', AUTH: 'off' },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const exited = once(start, 'exit')
  let output = ''
  start.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
  const said = (text: RegExp) =>
    waitUntil(() => text.test(output), { what: `npm start to say ${text}`, deadlineMs: 120_000 })
  await said(/Ctrl-C stops everything/)
  const source = async () => {
    const response = await fetch(`http://127.0.0.1:${ports[2]}/relay`)
    return ((await response.json()) as { source: string }).source
  }
  await waitUntil(async () => (await source()) === 'debezium', {
    what: 'the connector to send',
    deadlineMs: 60_000,
  })
  const connect = { url: `http://127.0.0.1:${ports[6]}` }
  expect(await listConnectors(connect, 'sluice-outbox-')).toHaveLength(1)
  start.kill('SIGINT')
  await exited
  expect(output).toMatch(
    /✓ services +stopped[\s\S]*✓ Kafka Connect +stopped[\s\S]*✓ Kafka +stopped/,
  )
}, 240_000)
